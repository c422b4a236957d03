"""Gives a target inputs, one after the other, and keeps what it stumbles over."""

import traceback
from collections import Counter
from collections.abc import Callable, Sequence
from typing import NamedTuple

from tests.fuzz.mutating import Mutator


class Finding(AssertionError):
    """A promise that does not hold."""


class Target(NamedTuple):
    """One place where input comes in."""

    run: Callable[[bytes, Mutator], str]
    """Given an input, and how it may be cut into pieces."""
    examples: Sequence[bytes]
    words: Sequence[bytes] = ()


class Found(NamedTuple):
    """An input, and what the target raised."""

    data: bytes
    error: Exception


def fuzz(name: str, target: Target, *, seed: int, count: int) -> tuple[Counter[str], list[Found]]:
    """Give a target so many inputs; what became of them, and the first finding at each place."""
    mutator = Mutator(f"{seed}/{name}", target.examples, target.words)
    outcomes: Counter[str] = Counter()
    findings: dict[str, Found] = {}
    for _ in range(count):
        data = mutator.next()
        try:
            outcomes[target.run(data, mutator)] += 1
        except Exception as error:  # noqa: BLE001 -- whatever it is, it is a finding
            outcomes["FOUND"] += 1
            place = traceback.extract_tb(error.__traceback__)[-1]
            findings.setdefault(f"{type(error).__name__} {place.filename}:{place.lineno}", Found(data, error))
    return outcomes, list(findings.values())
