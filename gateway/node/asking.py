"""One worker asks all workers of its node to do something, and collects what they answer.

The question is a file, at which every worker looks when told, and now and then; each answers in a file of its own.
One question is asked at a time. A worker that does not answer in time, because it was stopped or dies, is left out.
"""

import os
import time
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import msgspec

from gateway.errors import DeadlineExceeded
from gateway.events import NodeNotShared, Observer, ignore
from gateway.node.files import FileLock, replace
from gateway.node.processes import my_start
from gateway.node.snapshots import Snapshot
from gateway.waiting import Waits

LOOK_EVERY = 0.01
"""Seconds between two looks for answers."""
PATIENCE = 1.0
"""Seconds for which answers are waited for, and for which a question waits for the one before."""

Respond = Callable[[str], Any]
"""Does what is asked, with what the question says; what it returns can be written as MessagePack."""


class _Question(msgspec.Struct, frozen=True):
    number: int
    what: str
    details: str


class _Answer(msgspec.Struct, frozen=True):
    number: int
    body: Any


class Asking:
    """Asks, and answers. Without a directory this worker is the only one that is asked."""

    def __init__(
        self,
        *,
        directory: Path | None,
        workers: Callable[[], Iterable[Snapshot]],
        responses: Mapping[str, Respond],
        waits: Waits,
        tell: Callable[[], None] = lambda: None,
        observe: Observer = ignore,
    ) -> None:
        """``workers``: all that live; ``responses``: what can be asked for, by its word.

        ``tell`` has the other workers call ``tend``.
        """
        self._directory = directory
        self._workers = workers
        self._responses = responses
        self._waits = waits
        self._tell = tell
        self._observe = observe
        self._is_asking = False
        self._seen: tuple[int, int] | None = None
        self._lock: FileLock | None = None
        if directory is not None:
            try:
                self._lock = FileLock(directory / "question.lock")
                self._seen = self._version()
            except OSError as error:
                observe(NodeNotShared(what="this worker cannot ask the others", detail=str(error)))

    def ask(self, what: str, details: str = "", *, patience: float = PATIENCE) -> list[Any]:
        """Return what each worker answers, this one's first. Raises DeadlineExceeded while another question is open.

        ``patience``: seconds for which answers are waited for.
        """
        if self._directory is None or self._lock is None:
            return [self._responses[what](details)]
        ends = time.monotonic() + PATIENCE
        while self._is_asking or not self._lock.take():
            if time.monotonic() >= ends:
                raise DeadlineExceeded("another operator's question to the workers is still open")
            self._waits.pause(LOOK_EVERY)
        self._is_asking = True
        try:
            return self._ask(self._directory, what, details, patience)
        finally:
            self._is_asking = False
            self._lock.free()

    def tend(self) -> None:
        """Answer a question that was asked since the last call. To be called when others tell, and now and then."""
        version = self._version()
        if version is None or version == self._seen or self._directory is None:
            return
        self._seen = version
        with suppress(OSError, msgspec.MsgspecError):
            question = msgspec.msgpack.decode((self._directory / "question").read_bytes(), type=_Question)
            if question.what in self._responses:
                body = self._responses[question.what](question.details)
                answer = msgspec.msgpack.encode(_Answer(question.number, body))
                replace(self._file(self._directory, os.getpid(), my_start()), answer)

    def _ask(self, directory: Path, what: str, details: str, patience: float) -> list[Any]:
        number = time.monotonic_ns()
        with suppress(OSError):
            replace(directory / "question", msgspec.msgpack.encode(_Question(number, what, details)))
            self._tell()
        self._seen = self._version()
        answers = [self._responses[what](details)]
        me = (os.getpid(), my_start())
        ends = time.monotonic() + patience
        answered = {me}
        while time.monotonic() < ends:
            missing = {(worker.pid, worker.started) for worker in self._workers()} - answered
            if not missing:
                break
            for worker in missing:
                answer = _answer_in(self._file(directory, *worker))
                if answer is not None and answer.number == number:
                    answered.add(worker)
                    answers.append(answer.body)
            self._waits.pause(LOOK_EVERY)
        for worker in answered:
            self._file(directory, *worker).unlink(missing_ok=True)
        return answers

    def _version(self) -> tuple[int, int] | None:
        """Return what tells one question from the next; None if none was asked. PERF: 2 µs."""
        try:
            status = os.stat(f"{self._directory}/question")  # noqa: PTH116 -- a Path would take as long again
        except OSError:
            return None
        return status.st_ino, status.st_mtime_ns

    @staticmethod
    def _file(directory: Path, pid: int, started: int) -> Path:
        return directory / f"answer-{pid}-{started}"


def _answer_in(file: Path) -> _Answer | None:
    try:
        return msgspec.msgpack.decode(file.read_bytes(), type=_Answer)
    except (OSError, msgspec.MsgspecError):
        return None
