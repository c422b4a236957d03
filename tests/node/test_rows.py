"""Files of rows that come with an endpoint or a group, and go when nobody has them any more."""

import os
import signal
import struct
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from gateway.node.ledger import KEPT, Ledger
from gateway.node.rows import Rows, remove_unused

FORM = struct.Struct("=Q")
HOLDER = """
import struct, sys, time
from pathlib import Path
from gateway.node.rows import Rows
rows = Rows(Path(sys.argv[1]), struct.Struct("=Q"), count=1)
print("open", flush=True)
input()
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "rows-1"


def test_a_file_that_nobody_has_is_removed_once_it_is_old(file: Path) -> None:
    Rows(file, FORM, count=1).close()
    remove_unused(file.parent, "rows-*", after=60)
    assert file.exists()
    os.utime(file, (0, time.time() - 61))
    remove_unused(file.parent, "others-*", after=60)
    assert file.exists()
    remove_unused(file.parent, "rows-*", after=60)
    assert not file.exists()


def test_a_file_that_a_process_has_open_stays_until_that_process_is_dead(file: Path) -> None:
    command = [sys.executable, "-c", HOLDER, str(file)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as holder:  # noqa: S603 -- our own
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"open\n"
        remove_unused(file.parent, "rows-*", after=0)
        assert file.exists()
        holder.send_signal(signal.SIGKILL)
        holder.wait(10)
    remove_unused(file.parent, "rows-*", after=0)
    assert not file.exists()


def test_a_row_that_is_locked_does_not_keep_others_from_opening_the_file_or_the_file_from_staying(file: Path) -> None:
    one, two = Rows(file, FORM, count=1), Rows(file, FORM, count=1)
    assert one.try_lock(0)
    assert not two.try_lock(0)
    one.close()
    remove_unused(file.parent, "rows-*", after=0)
    assert file.exists()
    assert two.try_lock(0)
    two.close()
    remove_unused(file.parent, "rows-*", after=0)
    assert not file.exists()


def test_processes_that_open_it_while_others_remove_it_have_the_file_that_is_there(file: Path) -> None:
    remover = "from pathlib import Path\nfrom gateway.node.rows import remove_unused\nprint('go', flush=True)\n"
    remover += f"while True: remove_unused(Path({str(file.parent)!r}), 'rows-*', after=0)"
    command = [sys.executable, "-c", remover]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as removing:  # noqa: S603 -- our own words
        try:
            assert removing.stdout is not None
            assert removing.stdout.readline() == b"go\n"
            for _ in range(2000):
                one = Rows(file, FORM, count=1)
                two = Rows(file, FORM, count=1)
                assert one.try_lock(0)
                assert not two.try_lock(0)
                one.close()
                two.close()
        finally:
            removing.kill()


class NoDriver:
    """Connects to nothing."""

    def connect(self, endpoint: str, deadline: float) -> Any:  # of no kind, as there is none
        raise AssertionError(endpoint, deadline)


def test_what_the_connections_of_servers_were_counted_in_goes_an_hour_after_them(tmp_path: Path) -> None:
    """As addresses of pods, of which none comes back."""

    def serve(*endpoints: str) -> Ledger:
        made = Ledger(tmp_path, workers=1, is_draining=lambda: False, observe=events.append)
        made.for_group("read", NoDriver(), size=2, endpoints=endpoints)
        made.for_probes(NoDriver(), dict.fromkeys(endpoints, "here"))
        return made

    events: list[object] = []
    latest = serve("one", "two")
    most = {path.name for path in tmp_path.iterdir()}
    assert len(most) == 5  # the group's places, and for each its sessions and the place of its probe
    for number in range(20):
        earlier, latest = latest, serve(f"pod{number}", f"pod{number + 1}")
        earlier.close()
        for path in tmp_path.iterdir():
            os.utime(path, (0, path.stat().st_mtime - KEPT / 2))
        assert len(list(tmp_path.iterdir())) <= 11  # of five endpoints, where there are two
    latest.close()
    assert not events
