"""Passwords that a command gives: run once for their time, renewed beside whoever connects, asked anew if refused."""

import sys
import threading
import time
from pathlib import Path

import pytest

from gateway.postgres import passwords
from gateway.postgres.passwords import CommandFailed, Passwords


def soon() -> float:
    return time.monotonic() + 20


@pytest.fixture
def command(tmp_path: Path) -> tuple[str, ...]:
    """Prints how often it was run."""
    script = tmp_path / "command.py"
    script.write_text(
        "import sys\nwith open(sys.argv[1], 'a+') as runs:\n    runs.write('x')\n    runs.seek(0)\n"
        "    print(f'password {len(runs.read())}')\n"
    )
    return sys.executable, "-S", str(script), str(tmp_path / "runs")


def test_it_is_run_once_for_its_time_however_many_connect(command: tuple[str, ...]) -> None:
    known = Passwords()
    given: list[str] = []
    threads = [threading.Thread(target=lambda: given.append(known.get(command, 60.0, soon()))) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert given == ["password 1"] * 8


def test_when_its_time_is_over_it_is_run_again(command: tuple[str, ...]) -> None:
    known = Passwords()
    assert known.get(command, 0.01, soon()) == "password 1"
    time.sleep(0.02)
    assert known.get(command, 0.01, soon()) == "password 2"


def test_towards_the_end_of_its_time_another_is_fetched_and_nobody_waits(
    command: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(passwords, "RENEW_AT", 0.0)
    known = Passwords()
    known.get(command, 60.0, soon())
    ends = soon()
    while (given := known.get(command, 60.0, soon())) == "password 1":
        assert time.monotonic() < ends
    assert given >= "password 2"


def test_one_that_the_server_refused_is_not_used_again(command: tuple[str, ...]) -> None:
    known = Passwords()
    for number in range(1, 4):  # however soon it has been replaced again
        assert known.get(command, 60.0, soon()) == f"password {number}"
        assert known.refused(command, 60.0, f"password {number}")


def test_whoever_was_refused_with_one_that_has_been_replaced_since_tries_the_new_one(command: tuple[str, ...]) -> None:
    known = Passwords()
    known.get(command, 60.0, soon())
    for _ in range(3):  # connections that were opened at the same time
        assert known.refused(command, 60.0, "password 1")
        assert known.get(command, 60.0, soon()) == "password 2"


def test_a_command_that_prints_what_was_refused_is_not_run_for_each_connection(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    runs = tmp_path / "runs"
    command = (sys.executable, "-S", "-c", f"open({str(runs)!r}, 'a').write('x'); print('wrong')")
    known = Passwords()
    known.get(command, 60.0, soon())
    assert known.refused(command, 60.0, "wrong")
    for _ in range(5):
        assert known.get(command, 60.0, soon()) == "wrong"
        assert not known.refused(command, 60.0, "wrong")
    assert runs.read_text() == "xx"
    monkeypatch.setattr(passwords, "REST", 0.0)
    known = Passwords()
    known.get(command, 60.0, soon())
    assert known.refused(command, 60.0, "wrong")
    known.get(command, 60.0, soon())
    assert known.refused(command, 60.0, "wrong")


def test_what_was_asked_for_before_a_refusal_is_not_taken_for_the_answer_to_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    printed, asked, may_end = (tmp_path / name for name in ("printed", "asked", "may-end"))
    printed.write_text("old")
    may_end.touch()
    program = (
        f"import os, time\nsaid = open({str(printed)!r}).read()\nopen({str(asked)!r}, 'w').close()\n"
        f"while not os.path.exists({str(may_end)!r}):\n    time.sleep(0.005)\nprint(said)\n"
    )
    command = (sys.executable, "-S", "-c", program)
    known = Passwords()
    known.get(command, 60.0, soon())
    monkeypatch.setattr(passwords, "RENEW_AT", 0.0)
    may_end.unlink()
    asked.unlink()
    known.get(command, 60.0, soon())  # begins to renew it
    ends = soon()
    while not asked.exists():
        assert time.monotonic() < ends
    printed.write_text("new")
    assert known.refused(command, 60.0, "old")
    may_end.touch()
    assert known.get(command, 60.0, soon()) == "new"


@pytest.mark.parametrize(
    ("program", "said"),
    [
        ("import sys; sys.exit('canary')", "has ended with status 1"),
        ("pass", "has printed no password"),
        ("import sys; sys.stdout.buffer.write(bytes([255]))", "not UTF-8"),
        ("import time; time.sleep(60)", "has not ended within"),
    ],
)
def test_a_command_that_gives_none_says_why_and_nothing_of_what_it_printed(program: str, said: str) -> None:
    with pytest.raises(CommandFailed, match=said) as failed:
        Passwords().get((sys.executable, "-S", "-c", program), 60.0, time.monotonic() + 1.0)
    assert "canary" not in str(failed.value)


def test_a_command_that_is_not_there_is_named_as_such() -> None:
    with pytest.raises(CommandFailed, match="cannot be started: No such file"):
        Passwords().get(("/nowhere/to/be/found",), 60.0, soon())
