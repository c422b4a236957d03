"""What the servers said of a catalogue's queries, in a file that the workers of a node share."""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from time import monotonic

import msgspec

from gateway.catalogue.query import Catalogue
from gateway.catalogue.types import Signature
from gateway.execution.plans import Plans

PATIENCE = 3.0
"""Seconds for which another worker may be learning before this one learns for itself: the other may be stopped."""


class Learnt(msgspec.Struct, frozen=True):
    """The content of the file."""

    signatures: dict[str, tuple[Signature, float]]
    """With when they were learnt."""
    faults: dict[str, str]
    complete: bool = True
    """Whether every query has been looked at."""


class LearntFile:
    """The file of one catalogue. Raises OSError and msgspec.MsgspecError where it cannot be used."""

    def __init__(self, directory: Path, catalogue: Catalogue) -> None:
        self._file = directory / f"signatures-{catalogue.hash[:16]}.json"
        self._adopted = 0
        """When what was adopted last had been written."""
        self._held_up_since: float | None = None

    @contextmanager
    def turn(self) -> Iterator[bool]:
        """Whether it is this worker's turn to learn, which the kernel ends should it die."""
        with self._file.with_suffix(".lock").open("w") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                if self._held_up_since is None:
                    self._held_up_since = monotonic()
                if monotonic() - self._held_up_since < PATIENCE:
                    yield False
                    return
            self._held_up_since = None
            yield True

    def adopt(self, plans: Plans) -> None:
        """Take over what another worker has written since the last time."""
        try:
            written = self._file.stat().st_mtime_ns
        except FileNotFoundError:
            return
        if written == self._adopted:
            return
        learnt = msgspec.json.decode(self._file.read_bytes(), type=Learnt)
        for name, (signature, at) in learnt.signatures.items():
            plans.learnt(name, signature, at=at)
        for name, fault in learnt.faults.items():
            plans.failed(name, fault)
        plans.complete = learnt.complete
        self._adopted = written

    def publish(self, plans: Plans) -> None:
        """Give the others what this worker has learnt."""
        learnt = Learnt(
            {each.query.name: (each.signature, each.learnt_at or 0.0) for each in plans.all() if each.signature},
            {each.query.name: each.fault for each in plans.all() if each.fault is not None},
            plans.complete,
        )
        draft = self._file.with_suffix(f".{os.getpid()}")
        draft.write_bytes(msgspec.json.encode(learnt))
        draft.replace(self._file)
