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


def test_one_that_the_server_refused_is_not_used_again(
    command: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    known = Passwords()
    known.get(command, 60.0, soon())
    assert not known.refused(command, 60.0)
    assert known.get(command, 60.0, soon()) == "password 1"  # it had only just been printed
    monkeypatch.setattr(passwords, "FRESH", 0.0)
    assert known.refused(command, 60.0)
    assert known.get(command, 60.0, soon()) == "password 2"


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
