"""What a process holds in memory, as the kernel counts it."""

import re
from pathlib import Path


def _kilobytes(pid: int | str, key: str) -> int:
    match = re.search(rf"^{key}:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text(encoding="ascii"), re.MULTILINE)
    assert match is not None
    return int(match[1])


def held(pid: int | str = "self") -> int:
    """Bytes in memory now."""
    return _kilobytes(pid, "VmRSS") << 10


def most_held(pid: int | str = "self") -> int:
    """The most bytes there were since ``forget_most``."""
    return _kilobytes(pid, "VmHWM") << 10


def forget_most(pid: int | str = "self") -> int:
    """Begin to look for the most anew; the bytes there are now."""
    Path(f"/proc/{pid}/clear_refs").write_text("5", encoding="ascii")
    return held(pid)
