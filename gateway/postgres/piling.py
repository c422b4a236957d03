"""The results of many statements in one message, which pile up in a setting of the transaction.

Only the last result of a message comes back: so each statement adds its own to the setting (see
``catalogue.wrapping.accumulate``), and the last one reads it.
"""

from collections.abc import Sequence

from gateway.catalogue.wrapping import ACCUMULATOR, AFTER_COUNT, AFTER_RESULT
from gateway.postgres import guarding
from gateway.postgres.single import Result

AT_ONCE = 100
"""Statements that accumulate in one message: each one copies what was there before."""

UNMEASURED = 10
"""Of those, results that may pile up before the server looks whether they are too large together."""

AROUND_RESULT = 22
"""Bytes, at most, that stand around a result where it is piled up: its count and what ends the two."""

BEGIN = f"SELECT pg_catalog.set_config('{ACCUMULATOR}', '', true)"
READ = f"SELECT pg_catalog.current_setting('{ACCUMULATOR}')"
TAMPERED = f"the query changes the setting {ACCUMULATOR}, in which the results of a list pile up"


def measured(statements: Sequence[str], most: int | None) -> Sequence[str]:
    """Return the statements, with guards among them that stop the message before far more than ``most`` bytes pile up.

    None: as many as there are.
    """
    if most is None:
        return statements
    guard = guarding.is_no_longer_than(most + AROUND_RESULT * len(statements), ACCUMULATOR)
    parts = [statements[begin : begin + UNMEASURED] for begin in range(0, len(statements), UNMEASURED)]
    return [statement for part in parts for statement in (*part, guard)]


def unpiled(piled: bytes | None) -> list[Result]:
    """Return the results of one message's statements, in their order; none where this is not what they piled up."""
    parts = [part.partition(AFTER_COUNT) for part in (piled or b"").split(AFTER_RESULT)]
    if not all(count.isdigit() for count, _, _ in parts[:-1]) or parts[-1][0]:
        return []
    return [Result(text, int(count)) for count, _, text in parts[:-1]]
