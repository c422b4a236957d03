"""What commands print, how they end, and what they refuse."""

import socket
import subprocess
from pathlib import Path

import pytest

from gateway import __version__
from gateway.demo.ports import find_port
from gateway.server.control import SPARE, NotDone, NotDoneYet, Target, ask
from tests.cli.starting import gateway, write, write_project


def test_the_version_is_told() -> None:
    assert gateway("--version").output == f"gateway, version {__version__}\n"


@pytest.mark.parametrize(
    "command",
    ["serve", "check", "init", "init-db", "demo", "drain", "resume", "learn", "reload", "requests", "explain", "log"],
)
def test_the_help_of_every_command_has_an_example(command: str) -> None:
    result = gateway(command, "--help")
    assert result.exit_code == 0
    assert f"\n  gateway {command}" in result.output.partition("Options:")[0]


def test_init_writes_what_check_accepts() -> None:
    assert gateway("init").exit_code == 0
    checked = gateway("check", "--offline")
    assert (checked.exit_code, checked.output) == (0, "1 query: no faults\n")


def test_init_in_a_new_folder_says_how_to_go_on(folder: Path) -> None:
    result = gateway("init", "new/place")
    assert result.output.splitlines()[-1] == (
        "Now write your dsn into new/place/gateway.toml, then: gateway check -c new/place/gateway.toml"
    )
    assert (folder / "new/place/queries/hello.sql").exists()


def test_init_overwrites_nothing_and_lists_what_is_there() -> None:
    write("queries/hello.sql", "mine")
    result = gateway("init")
    assert (result.exit_code, result.stderr) == (
        1,
        "queries/hello.sql: is there already; nothing was written\n1 fault\n",
    )
    assert Path("queries/hello.sql").read_text() == "mine"
    assert not Path("gateway.toml").exists()


def test_init_says_when_it_cannot_write() -> None:
    write("queries", "a file")
    result = gateway("init")
    assert result.exit_code == 1
    assert "cannot be written" in result.stderr


@pytest.mark.parametrize("command", [("check", "--offline"), ("serve",)])
def test_every_fault_of_settings_and_queries_is_printed_at_once(command: tuple[str, ...]) -> None:
    write_project("[server]\nthreads = 0\n", "-- name: one$\n-- @cash 3s\nSELECT 1;\n-- name: two\nDROP TABLE x;\n")
    result = gateway(*command, GATEWAY_SERVER__WORKERS="many")
    assert result.exit_code == 1
    lines = result.stderr.splitlines()
    assert lines[0] == "environment GATEWAY_SERVER__WORKERS: server.workers: must be a whole number"
    assert lines[1] == "gateway.toml:2: server.threads: must be at least 1 (it is 0)"
    assert [line.partition(": ")[0] for line in lines[2:-1]] == ["queries/one.sql:2", "queries/one.sql:5"]
    assert lines[-1] == "4 faults"


def test_an_offline_check_needs_no_secrets() -> None:
    write_project()
    write("gateway.toml", Path("gateway.toml").read_text() + 'password_file = "nowhere"\n')
    assert gateway("check", "--offline").exit_code == 0
    assert "nowhere cannot be read" in gateway("check").stderr


def test_check_says_which_server_cannot_be_reached() -> None:
    write_project()
    result = gateway("check")
    assert result.exit_code == 1
    assert result.stderr.startswith("endpoints.primary: cannot connect: ")
    assert result.stderr.endswith("1 fault\n")


def test_init_db_prints_what_it_would_run_and_needs_no_settings_for_it() -> None:
    printed = gateway("init-db", "--print")
    assert printed.exit_code == 0
    assert printed.output.startswith("CREATE TABLE IF NOT EXISTS gateway_idempotency (")


def test_init_db_says_that_no_primary_can_be_reached() -> None:
    write_project()
    result = gateway("init-db")
    assert result.exit_code == 1
    assert "primary: cannot connect" in result.stdout
    assert "groups.write: none of its endpoints is a primary that can be reached" in result.stderr


def test_roles_that_nobody_checks_are_warned_of() -> None:
    write_project(query="-- name: one$\n-- @role sales\nSELECT 1;\n")
    result = gateway("check", "--offline")
    assert result.exit_code == 0
    assert 'warning: 1 query names a @role (one), but with auth.mode = "none" no role is checked' in result.stderr


@pytest.mark.parametrize("command", [("check", "--offline"), ("serve",)])
def test_a_server_that_is_not_verified_is_a_fault_that_says_what_to_do(command: tuple[str, ...]) -> None:
    write_project()
    result = gateway(*command, DATABASE_URL="", GATEWAY_ENDPOINTS__FAR__DSN="host=db.example sslmode=require")
    assert result.exit_code == 1
    fault, count = result.stderr.splitlines()
    assert fault.startswith("endpoints.far.dsn: sslmode=require is not enough off this machine")
    assert "set allow_insecure = true" in fault
    assert count == "1 fault"


def test_a_server_that_is_meant_not_to_be_verified_is_warned_of() -> None:
    write_project()
    far = {"GATEWAY_ENDPOINTS__FAR__DSN": "host=db.example", "GATEWAY_ENDPOINTS__FAR__ALLOW_INSECURE": "true"}
    assert gateway("check", "--offline", **far).stderr == ""
    result = gateway("check", "--offline", **far, PGSSLMODE="disable")
    assert result.exit_code == 0
    assert result.stderr.startswith("warning: endpoints.far: sslmode=disable: others on the way could read")


def test_an_option_names_itself_in_its_fault() -> None:
    write_project()
    result = gateway("serve", "--bind", "0.0.0.0:80", "--workers", "x")
    assert [line.partition(":")[0] for line in result.stderr.splitlines()] == ["--bind", "--workers", "2 faults"]


def test_a_busy_port_is_told_before_anything_starts() -> None:
    write_project()
    port = find_port()
    with socket.create_server(("127.0.0.1", port)):
        result = gateway("serve", "--bind", f"127.0.0.1:{port}")
    assert (result.exit_code, result.stderr.splitlines()[0]) == (
        1,
        f"server.bind 127.0.0.1:{port}: the address is in use; is another server, or another gateway, running there?",
    )


def test_a_file_that_is_not_there_is_a_fault() -> None:
    result = gateway("serve", "-c", "nope.toml")
    assert (result.exit_code, result.stderr.splitlines()[0]) == (
        1,
        "nope.toml: cannot be read: No such file or directory",
    )


def test_a_node_that_is_not_there_is_a_sentence() -> None:
    ended = subprocess.Popen(["/bin/true"])
    ended.wait()
    lost = gateway("drain", "primary", "--pid", str(ended.pid))
    assert (lost.exit_code, lost.output) == (1, f"no running gateway with process {ended.pid} was found\n")
    lost = gateway("resume", "primary", "-c", "nowhere.toml")
    assert (lost.exit_code, lost.output) == (1, "no running gateway with settings from nowhere.toml was found\n")
    wrong = gateway("drain", "primary", "--wait", "5")
    assert wrong.exit_code == 2
    assert 'must be a duration such as "250ms", "5s"' in wrong.output


def test_a_node_that_does_not_answer_is_a_sentence(folder: Path) -> None:
    node = Target(f"unix:{folder / 'admin.sock'}", "process 4711")
    with pytest.raises(NotDone, match=r"process 4711 cannot be asked at unix:/.*: No such file or directory"):
        ask(node, "POST", "/admin/learn", wait=0)
    with socket.socket(socket.AF_UNIX) as deaf:
        deaf.bind(str(folder / "admin.sock"))
        with pytest.raises(NotDone, match="Connection refused"):
            ask(node, "POST", "/admin/learn", wait=0)
        deaf.listen()
        with pytest.raises(NotDoneYet, match=r"has not answered for 0\.1 s"):
            ask(node, "POST", "/admin/learn", wait=0.1 - SPARE)
