"""What of a session's state is reset between two uses, and what earlier uses may have left to the next one."""

from collections.abc import Callable, Iterable

from gateway.catalogue.arguments import literal
from gateway.postgres.statement import Plan

RESET = (
    "RESET ALL; SET SESSION AUTHORIZATION DEFAULT; CLOSE ALL; UNLISTEN *;"
    " SELECT pg_catalog.pg_advisory_unlock_all(); DISCARD TEMP; DISCARD SEQUENCES"
)
"""First of all the settings, so that nothing a query has set has a say in the rest."""

REPORTED = (
    "TimeZone",
    "default_transaction_read_only",
    "DateStyle",
    "IntervalStyle",
    "standard_conforming_strings",
    "client_encoding",
    "session_authorization",
    "search_path",
)
"""Settings whose changes a server reports unasked (the last one from PostgreSQL 18 on)."""


class Leftovers:
    """What earlier uses of one session may have left there, and the state that the next use is to find.

    PERF: where a use begins and ends, its fields are read and written without a call.
    """

    __slots__ = ("needs_reset", "pinned", "reported", "sequences_stale", "write_limit")

    def __init__(self) -> None:
        self.needs_reset = False
        """Whether session state of an earlier use may still be there."""
        self.sequences_stale = False
        """Whether ``lastval`` and ``currval`` may show what an earlier lease did; only a query that is not harmless
        can ask for them, so they are discarded in front of the next one."""
        self.write_limit = 0
        """Milliseconds after which the server ends a statement, as the session was told; 0: not told, or not known."""
        self.reported: tuple[str | None, ...] = ()
        """What the settings in ``REPORTED`` were when the session was established."""
        self.pinned: dict[str, str] = {}
        """Settings that the connect options did not bring about: each has to be set, after every reset again."""

    def note(self, told: Callable[[str], str | None]) -> None:
        """Note what the server reports, through ``told``, as what every use is to find."""
        self.reported = tuple(map(told, REPORTED))

    def is_as_before(self, told: Callable[[str], str | None]) -> bool:
        """Return whether the server reports, through ``told``, what it did when the session was established."""
        return tuple(map(told, REPORTED)) == self.reported

    def reset(self) -> str:
        """Return what resets the session, to go in front of a message.

        NOTE: an explicit transaction, else a query that fails behind it would undo it.
        """
        return f"BEGIN ISOLATION LEVEL READ COMMITTED; {'; '.join([RESET, *self.pins('SET')])}; COMMIT; "

    def pins(self, verb: str) -> list[str]:
        """Return the statements that set what is pinned: with SET for the session, or with SET LOCAL."""
        return [f"{verb} {name} = {literal(value)}" for name, value in self.pinned.items()]

    def discards(self, plans: Iterable[Plan]) -> list[str]:
        """Return the statement that must come before these plans, where they may ask for what is left of sequences."""
        if not self.sequences_stale or all(plan.harmless for plan in plans):
            return []
        self.sequences_stale = False
        return ["DISCARD SEQUENCES"]
