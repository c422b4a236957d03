"""Which processes live: by pid and start, since a pid alone is used again."""

import os

_STATE, _START = 0, 19
"""Where in ``/proc/PID/stat``, counted behind the name (proc_pid_stat(5))."""


def start_of(pid: int) -> int | None:
    """When a process started, in clock ticks since the machine did; None: it is dead, or a zombie, or never was."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:  # noqa: PTH123 -- asked for every worker, ten times a second
            fields = file.read().rpartition(b")")[2].split()
    except OSError:
        return None
    return None if fields[_STATE] in (b"Z", b"X") else int(fields[_START])


def my_start() -> int:
    """When this process started."""
    return start_of(os.getpid()) or 0


def is_alive(pid: int, started: int) -> bool:
    """Whether the process that got this pid at that time is still there, stopped or not."""
    return start_of(pid) == started
