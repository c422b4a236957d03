"""How much processor time a tree of processes has used (proc(5))."""

import os
from pathlib import Path

_TICK = 1 / os.sysconf("SC_CLK_TCK")


def processor_seconds(root: int) -> float:
    """User and system time of a process and all its descendants, those included that ended and were waited for."""
    children: dict[int, list[int]] = {}
    seconds: dict[int, float] = {}
    for directory in Path("/proc").glob("[0-9]*"):
        try:
            fields = (directory / "stat").read_bytes().rpartition(b")")[2].split()
        except (FileNotFoundError, ProcessLookupError):
            continue
        pid = int(directory.name)
        children.setdefault(int(fields[1]), []).append(pid)
        seconds[pid] = sum(map(int, fields[11:15])) * _TICK  # utime, stime, cutime, cstime
    tree = [root]
    for pid in tree:  # grows while it is walked
        tree.extend(children.get(pid, ()))
    return sum(seconds.get(pid, 0.0) for pid in tree)
