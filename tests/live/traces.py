"""What would be left of a process: everything it has started, and the directories that its servers work in."""

import contextlib
import os
import select
from collections.abc import Iterator
from pathlib import Path

from gateway.demo import janitor


class Trace:
    """The descendants of a process as they were at one moment. Processes are held by their pidfd, not by their pid."""

    def __init__(self, pid: int) -> None:
        root = janitor.identify(pid)
        assert root is not None
        processes = [process for process in janitor.descend([root]) if process != root]
        self.commands: dict[int, list[str]] = {}
        self._watches: dict[int, int] = {}
        for process in processes:
            with contextlib.suppress(FileNotFoundError, ProcessLookupError):  # it has ended of itself since
                self._watches[process.pid] = os.pidfd_open(process.pid)
                self.commands[process.pid] = _command(process.pid)
        self.directories = {
            Path(words[words.index("-D") + 1]).parent for words in self.commands.values() if "-D" in words
        }

    def pids(self, word: str) -> list[int]:
        """Of the processes with this word somewhere in their command."""
        return [pid for pid, words in self.commands.items() if any(word in each for each in words)]

    def living(self, timeout: float = 10.0) -> list[list[str]]:
        """The commands of those that do not end in time."""
        left = []
        for pid, watch in self._watches.items():
            if not select.select([watch], [], [], timeout)[0]:
                left.append(self.commands.get(pid, []))
        return left

    def close(self) -> None:
        """Stop watching."""
        for watch in self._watches.values():
            os.close(watch)


@contextlib.contextmanager
def traced(pid: int) -> Iterator[Trace]:
    """The trace of a process, watched for the length of a ``with``."""
    trace = Trace(pid)
    try:
        yield trace
    finally:
        trace.close()


def _command(pid: int) -> list[str]:
    return Path(f"/proc/{pid}/cmdline").read_bytes().decode(errors="replace").rstrip("\0").split("\0")
