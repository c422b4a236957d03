"""Clean up after a process however it ended: end what it had started, remove the directories it had made.

Runs as a script, ``python -I -S janitor.py OWNER``, as a child of its owner and in a session of its own, and
imports nothing but the standard library. The owner writes what is to be cleaned to its standard input::

    directory <tab> PATH
    process <tab> PID <tab> START TIME <tab> SIGNAL

The end of that input is the order to clean up, and the only one: closing the pipe is how an owner that stops
does it, and the kernel closes it for an owner that was killed. So there is one way of cleaning up, and it does
not depend on anybody's patience with Ctrl-C.

NOTE: Processes are found through ``/proc/PID/stat``, which everybody may read. ``/proc/PID/cwd`` would be
simpler, but in a container root may not read it of another user's processes.
"""

import contextlib
import ctypes
import os
import select
import shutil
import signal
import sys
import time
from collections.abc import Collection, Iterable
from pathlib import Path
from typing import NamedTuple

_PATIENCE = 2.0  # seconds a process has after its signal, before SIGKILL
_INSISTENCE = 10.0  # seconds to wait for the dead to vanish, and for directories to go
_LOOK_EVERY = 0.005
_IPC_RMID = 0
_SHARED_MEMORY_LINE = 6  # of postmaster.pid, counted from 0: "key id"


class Process(NamedTuple):
    """One process; its start time (clock ticks since boot) tells it from a later one with the same pid."""

    pid: int
    started: int


class Duty(NamedTuple):
    """A process to be ended together with all its descendants, and the signal that asks it to."""

    process: Process
    ending: signal.Signals


class _Look(NamedTuple):
    """What ``/proc/PID/stat`` says."""

    process: Process
    parent: int
    session: int
    gone: bool


def _look(pid: int) -> _Look | None:
    """State of a process now, or None where there is none (proc(5): the name may hold spaces and parentheses)."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return None
    return _Look(Process(pid, int(fields[19])), int(fields[1]), int(fields[3]), fields[0] in b"ZX")


def identify(pid: int) -> Process | None:
    """The process that has this pid now; None where there is none."""
    found = _look(pid)
    return found.process if found else None


def is_living(process: Process) -> bool:
    """Whether it still runs; a zombie, for which its parent has not waited, does not."""
    found = _look(process.pid)
    return found is not None and found.process == process and not found.gone


def descend(roots: Collection[Process]) -> list[Process]:
    """The living among ``roots``, all their living descendants and who is left of their sessions, ancestors first.

    A session tells who belonged to a root that is gone. NOTE: Its number is not given away as long as it has members
    (credentials(7)); when another process has it as pid, nobody is left of ours.
    """
    looks = [look for entry in Path("/proc").iterdir() if entry.name.isdigit() and (look := _look(int(entry.name)))]
    holders = {look.process.pid: look.process for look in looks}
    sessions = {root.pid for root in roots if holders.get(root.pid, root) == root}
    children: dict[int, list[Process]] = {}
    tree: list[Process] = []
    for look in looks:
        if not look.gone:
            children.setdefault(look.parent, []).append(look.process)
            if look.session in sessions or look.process in roots:
                tree.append(look.process)
    tree.sort(key=lambda process: process.pid not in sessions)
    for process in tree:  # grows while it is walked
        tree.extend(child for child in children.get(process.pid, ()) if child not in tree)
    return tree


def send(process: Process, what: signal.Signals) -> None:
    """Signal a process if it still is that process."""
    if is_living(process):
        with contextlib.suppress(ProcessLookupError):
            os.kill(process.pid, what)


def end(duties: Iterable[Duty]) -> bool:
    """End processes and their descendants: their signal first (frozen ones are thawed for it), SIGKILL later.

    True when none is left.
    """
    duties = list(duties)
    roots = [duty.process for duty in duties]
    known = set(descend(roots))
    for duty in duties:
        send(duty.process, duty.ending)
    for process in known:
        send(process, signal.SIGCONT)
    started = time.monotonic()
    while time.monotonic() - started < _INSISTENCE:
        known.update(descend(roots))
        left = [process for process in known if is_living(process)]
        if not left:
            return True
        if time.monotonic() - started > _PATIENCE:
            for process in left:
                send(process, signal.SIGKILL)
        time.sleep(_LOOK_EVERY)
    return False


def release_shared_memory(directory: Path) -> None:
    """Remove the System V segments of servers that were killed before they could do it themselves.

    A server that ends in order removes its ``postmaster.pid``; one that is left names its segment.
    """
    for lock in directory.glob("*/postmaster.pid"):
        lines = lock.read_text().splitlines()
        if len(lines) > _SHARED_MEMORY_LINE:
            ctypes.CDLL(None).shmctl(int(lines[_SHARED_MEMORY_LINE].split()[1]), _IPC_RMID, None)


def remove(directory: Path) -> bool:
    """Remove a directory with all that is in it, again if somebody was still writing; True when it is gone."""
    started = time.monotonic()
    while directory.exists() and time.monotonic() - started < _INSISTENCE:
        shutil.rmtree(directory, ignore_errors=True)
        if directory.exists():
            time.sleep(_LOOK_EVERY)
    return not directory.exists()


def clean(directories: Iterable[Path], duties: Iterable[Duty]) -> bool:
    """End the processes, then remove the directories; True when nothing is left."""
    ended = end(duties)
    removed = []
    for directory in directories:
        release_shared_memory(directory)
        removed.append(remove(directory))
    return ended and all(removed)


def _listen(owner: int) -> bytes:
    """Everything the owner wrote, once it has closed the pipe or is gone.

    NOTE: The parent's pid is looked at too: a forked child of the owner would hold the pipe open.
    """
    written = b""
    while os.getppid() == owner:
        if select.select([0], [], [], 1.0)[0]:
            part = os.read(0, 65536)
            if not part:
                break
            written += part
    return written


def main(owner: int) -> int:
    """Wait for the owner's end and clean up after it; 0 when nothing is left."""
    for what in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT):
        signal.signal(what, signal.SIG_IGN)  # whoever ends everybody at once must not end this first
    directories: list[Path] = []
    duties: list[Duty] = []
    for line in _listen(owner).decode().splitlines():
        what_for, *words = line.split("\t")
        if what_for == "directory":
            directories.append(Path(words[0]))
        else:
            pid, started, ending = map(int, words)
            duties.append(Duty(Process(pid, started), signal.Signals(ending)))
    return 0 if clean(directories, duties) else 1


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1])))
