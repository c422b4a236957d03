"""``gateway key``: what it writes, prints and refuses."""

import re
import stat
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from gateway.auth import keys, keys_file
from gateway.cli import main

SETTINGS = '[auth]\nmode = "keys"\nkeys_file = "keys.toml"\n'


@pytest.fixture(autouse=True)
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    Path("gateway.toml").write_text(SETTINGS)
    return tmp_path / "keys.toml"


def key(*arguments: str) -> Result:
    return CliRunner().invoke(main, ["key", *arguments], env={})


def made(*arguments: str) -> str:
    result = key(*arguments)
    assert result.exit_code == 0, result.output
    shown = result.stdout.strip()
    assert keys.id_of(shown) is not None
    return shown


def test_a_new_key_is_shown_once_and_kept_as_its_hash(file: Path) -> None:
    shown = made(
        "new", "orders", "--role", "sales", "--role", "support", "--parameter", "tenant_id=7", "--expires", "90d"
    )
    (kept,) = keys_file.read(file)
    assert (kept.name, kept.roles, kept.parameters) == ("orders", ("sales", "support"), {"tenant_id": "7"})
    assert kept.sha256 == keys.digest_of(shown).hex()
    assert kept.expires == kept.created + 90 * 86400
    assert shown.split("_")[2] not in file.read_text()
    assert stat.S_IMODE(file.stat().st_mode) == 0o600


def test_the_list_shows_no_secret_and_what_has_expired() -> None:
    shown = [made("new", "orders", "--role", "sales"), made("new", "old", "--expires", "1ms")]
    listed = key("list")
    assert [re.split("  +", line)[1:3] for line in listed.stdout.splitlines()] == [
        ["NAME", "ROLES"],
        ["orders", "sales"],
        ["old", "-"],
    ]
    assert listed.stdout.count("(expired)") == 1
    assert not any(part in listed.output for each in shown for part in each.split("_")[2:])


def test_a_revoked_key_is_gone(file: Path) -> None:
    first, second = made("new", "orders"), made("new", "orders")
    assert key("revoke", first[4:12]).exit_code == 0
    assert [kept.id for kept in keys_file.read(file)] == [second[4:12]]
    again = key("revoke", first[4:12])
    assert (again.exit_code, "there is no key" in again.stderr) == (1, True)


def test_a_rotated_key_has_a_successor_like_it_and_a_time_to_go(file: Path) -> None:
    made("new", "orders", "--role", "sales", "--parameter", "t=1")
    other = made("new", "other")
    made("rotate", "orders", "--overlap", "1h")
    old, untouched, new = keys_file.read(file)
    assert old.expires is not None
    assert 0 <= old.expires - new.created - 3600 <= 5
    assert (new.name, new.roles, new.parameters, new.expires) == ("orders", ("sales",), {"t": "1"}, None)
    assert (untouched.id, untouched.expires) == (other[4:12], None)
    assert key("rotate", "nobody").exit_code == 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["new", "a b"], "name must be"),
        (["new", "a", "--role", "x y"], "roles must be"),
        (["new", "a", "--parameter", "x"], "is written NAME=VALUE"),
        (["new", "a", "--parameter", "sub=x"], "sub cannot be a parameter"),
        (["new", "a", "--expires", "90"], "must be a duration"),
    ],
)
def test_what_cannot_be_a_key_is_refused_and_nothing_is_written(file: Path, arguments: list[str], message: str) -> None:
    result = key(*arguments)
    assert result.exit_code != 0
    assert message in result.stderr
    assert not file.exists()


@pytest.mark.parametrize("command", [["new", "a"], ["list"], ["revoke", "a"], ["rotate", "a"]])
def test_without_a_place_for_them_it_says_what_to_write(command: list[str]) -> None:
    Path("gateway.toml").write_text("")
    result = key(*command)
    assert (result.exit_code, "there is no keys_file: write [auth]" in result.stderr) == (1, True)


def test_a_damaged_file_is_left_alone(file: Path) -> None:
    file.write_text("[[key]\n")
    for command in (["new", "a"], ["list"], ["revoke", "a"], ["rotate", "a"]):
        assert key(*command).exit_code == 1
    assert file.read_text() == "[[key]\n"
