"""The file of keys: what is read of it, and how it is changed."""

import stat
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.auth import keys_file
from gateway.auth.keys import Key
from gateway.faults import FaultsFound

SHA = "ab" * 32
ONE = f'[[key]]\nid = "aaaaaaaa"\nsha256 = "{SHA}"\nname = "orders"\n'


def key(number: int = 0, **more: object) -> Key:
    return Key(**{"id": f"{number:08}", "sha256": SHA, "name": "orders", **more})  # type: ignore[arg-type]


def faults(text: str) -> list[str]:
    with pytest.raises(FaultsFound) as found:
        keys_file.parse(text.encode(), "keys.toml")
    return [str(fault) for fault in found.value.faults]


def test_a_key_is_read_with_all_that_belongs_to_it() -> None:
    text = ONE + (
        'roles = ["sales"]\ncreated = 2026-11-29T00:00:00Z\nexpires = 2027-01-01T01:00:00+01:00\nrate = "10/s"\n'
        'parameters = { tenant_id = 7, "https://x/y" = ["a"] }\n'
    )
    (read,) = keys_file.parse(text.encode(), "")
    assert (read.name, read.roles, read.rate) == ("orders", ("sales",), "10/s")
    assert (read.created, read.expires) == (1795910400.0, 1798761600.0)
    assert read.parameters == {"tenant_id": 7, "https://x/y": ["a"]}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("key = 3", "keys.toml: keys are written as [[key]]"),
        ("[key]\nid = 3", "keys.toml: keys are written as [[key]]"),
        ("[[keys]]\n", "keys.toml: there is no keys, only [[key]]"),
        ("[[key]\n", "keys.toml: is not valid TOML"),
        (f"{ONE}{ONE}", "keys.toml:5: key 2: the id aaaaaaaa is there twice"),
        (f"\n{ONE}role = 'x'", "keys.toml:2: key 1: there is no setting role; there are created, expires, id"),
        (ONE.replace("aaaaaaaa", "a"), "keys.toml:1: key 1: id must be 8 letters and digits"),
        (ONE.replace(SHA, "secret"), "keys.toml:1: key 1: sha256 must be 64 hex digits"),
        (ONE.replace("orders", "a b"), "keys.toml:1: key 1: name must be"),
        (f"{ONE}roles = 'sales'", "keys.toml:1: key 1: roles must be a list of words"),
        (f"{ONE}roles = ['a b']", "keys.toml:1: key 1: roles must be a list of words"),
        (f"{ONE}expires = '2027-01-01'", "keys.toml:1: key 1: expires must be a time with its offset"),
        (f"{ONE}expires = 2027-01-01T00:00:00", "keys.toml:1: key 1: expires must be a time with its offset"),
        (f"{ONE}rate = 3", "keys.toml:1: key 1: rate must be text"),
        (f'{ONE}rate = "3"', "keys.toml:1: key 1: rate must be a rate such as"),
        (f"{ONE}parameters = {{ a = {{ b = 1 }} }}", "keys.toml:1: key 1: parameters must be a table"),
        (f"{ONE}parameters = {{ a = nan }}", "keys.toml:1: key 1: parameters must be a table"),
        (f"{ONE}parameters = {{ sub = 'x' }}", "keys.toml:1: key 1: sub cannot be a parameter"),
    ],
)
def test_what_is_wrong_is_told_with_its_place(text: str, message: str) -> None:
    assert any(fault.startswith(message) for fault in faults(text)), faults(text)


def test_a_fault_quotes_no_hash() -> None:
    assert "secret" not in str(faults(ONE.replace(SHA, "secret") + ONE + "[[key]]\n"))


def test_what_cannot_be_read_is_one_fault(tmp_path: Path) -> None:
    with pytest.raises(FaultsFound, match="cannot be read: No such file or directory"):
        keys_file.read(tmp_path / "nothing")
    (tmp_path / "binary").write_bytes(b"\xff")
    with pytest.raises(FaultsFound, match="is not valid TOML"):
        keys_file.read(tmp_path / "binary")


NAMES = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1, max_size=20)
VALUES = st.one_of(
    NAMES, st.integers(-(2**63), 2**63 - 1), st.booleans(), st.floats(allow_nan=False, allow_infinity=False)
)


@given(st.dictionaries(NAMES.filter(lambda name: name not in ("sub", "roles")), VALUES | st.lists(VALUES), max_size=4))
def test_whatever_parameters_a_key_has_they_are_written_as_they_are_read(parameters: dict[str, object]) -> None:
    made = key(1, parameters=parameters, roles=("ä", "b"), created=1.0, expires=2.0, rate="1/s")
    assert keys_file.parse(keys_file.added("", made).encode(), "") == [made]


def test_whatever_else_is_written_there_stays(tmp_path: Path) -> None:
    file = tmp_path / "keys.toml"
    file.write_text(f"# ours\n{ONE}# theirs\n")
    with keys_file.changing(file) as (text, held, write):
        write(keys_file.added(text, key(2)), [*held, key(2)])
    with keys_file.changing(file) as (text, held, write):
        write(keys_file.removed(text, 1), held[:1])
    assert file.read_text().startswith(f"# ours\n{ONE}# theirs\n")
    assert keys_file.read(file) == [key(0, id="aaaaaaaa")]


def test_a_key_can_be_made_to_expire_whether_or_not_it_would() -> None:
    text = keys_file.added(keys_file.added("", key(1)), key(2, expires=9.0))
    for index in (0, 1):
        text = keys_file.expiring(text, index, 5.0)
    assert [each.expires for each in keys_file.parse(text.encode(), "")] == [5.0, 5.0]


def test_a_new_file_is_its_owners_and_an_old_one_keeps_its_mode(tmp_path: Path) -> None:
    file = tmp_path / "keys.toml"
    for number, mode in ((1, 0o600), (2, 0o640)):
        if number == 2:
            file.chmod(mode)
        with keys_file.changing(file) as (text, held, write):
            write(keys_file.added(text, key(number)), [*held, key(number)])
        assert stat.S_IMODE(file.stat().st_mode) == mode
    assert [path.name for path in tmp_path.iterdir()] == ["keys.toml"]


def test_a_change_that_would_not_come_out_as_meant_is_not_made(tmp_path: Path) -> None:
    file = tmp_path / "keys.toml"
    inline = f'key = [{{ id = "aaaaaaaa", sha256 = "{SHA}", name = "orders" }}]\n'
    file.write_text(inline)
    with (
        pytest.raises(FaultsFound),
        keys_file.changing(file) as (text, held, write),
    ):
        write(keys_file.added(text, key(2)), [*held, key(2)])
    assert file.read_text() == inline
