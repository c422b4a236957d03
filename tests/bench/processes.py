"""What a tree of processes costs: processor time and memory (proc(5))."""

import os
from pathlib import Path
from typing import NamedTuple

_TICK = 1 / os.sysconf("SC_CLK_TCK")
_OWN = ("Private_Clean:", "Private_Dirty:")


class Memory(NamedTuple):
    """In megabytes."""

    whole: float
    """PSS of all processes: pages of several are counted once."""
    worker: float
    """USS of the biggest process that has no children: what one more worker would cost."""


def processor_seconds(root: int) -> float:
    """User and system time of a process and all its descendants, those included that ended and were waited for."""
    seconds, children = _look()
    return sum(seconds.get(pid, 0.0) for pid in _descend(root, children))


def memory(root: int) -> Memory:
    """Memory of a process and all its descendants."""
    _, children = _look()
    whole = worker = 0.0
    for pid in _descend(root, children):
        pss, own = _sizes(pid)
        whole += pss
        if not children.get(pid):
            worker = max(worker, own)
    return Memory(whole, worker)


def _look() -> tuple[dict[int, float], dict[int, list[int]]]:
    """Of every process: the processor time, and its children."""
    seconds: dict[int, float] = {}
    children: dict[int, list[int]] = {}
    for directory in Path("/proc").glob("[0-9]*"):
        try:
            fields = (directory / "stat").read_bytes().rpartition(b")")[2].split()
        except (FileNotFoundError, ProcessLookupError):
            continue
        pid = int(directory.name)
        children.setdefault(int(fields[1]), []).append(pid)
        seconds[pid] = sum(map(int, fields[11:15])) * _TICK  # utime, stime, cutime, cstime
    return seconds, children


def _descend(root: int, children: dict[int, list[int]]) -> list[int]:
    tree = [root]
    for pid in tree:  # grows while it is walked
        tree.extend(children.get(pid, ()))
    return tree


def _sizes(pid: int) -> tuple[float, float]:
    """PSS and USS in megabytes; nothing of a process that has just ended."""
    try:
        text = Path(f"/proc/{pid}/smaps_rollup").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return 0.0, 0.0
    sizes = {fields[0]: int(fields[1]) / 1024 for line in text.splitlines()[1:] if len(fields := line.split()) > 1}
    return sizes["Pss:"], sum(sizes[name] for name in _OWN)
