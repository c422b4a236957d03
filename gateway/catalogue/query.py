"""The compiled form of a query: immutable values that workers load, free of any parser.

A query's SQL is kept as :class:`Text`, cut at its parameters, because three readers need it so: PREPARE
(parameters as ``$n``), the typing ladder (some occurrences as NULL) and CALL (literals in place).
"""

from collections.abc import Callable
from enum import StrEnum
from typing import Any, Final

import msgspec

from gateway.settings.units import Rate

TOOL_KEY: Final = "idempotency_key"
"""The argument that tools which write have besides their parameters."""


class Kind(StrEnum):
    """What a query answers with."""

    MANY = "many"
    ONE = "one"
    SCALAR = "scalar"
    EXEC = "exec"


class Access(StrEnum):
    """Whether a query may write."""

    READ = "read"
    WRITE = "write"


class Verb(StrEnum):
    """The main statement of a query."""

    SELECT = "select"  # VALUES and TABLE included
    INSERT = "insert"
    UPDATE = "update"
    DELETE = "delete"
    MERGE = "merge"
    CALL = "call"
    TRUNCATE = "truncate"
    REFRESH = "refresh"
    ANALYZE = "analyze"
    NOTIFY = "notify"

    @property
    def is_prepared(self) -> bool:
        """Whether PREPARE takes it; the others are sent as text."""
        return self not in (Verb.CALL, Verb.TRUNCATE, Verb.REFRESH, Verb.ANALYZE, Verb.NOTIFY)


class Text(msgspec.Struct, frozen=True, gc=False):
    """SQL cut at its parameters: ``pieces[0] <references[0]> pieces[1] <references[1]> … pieces[-1]``."""

    pieces: tuple[str, ...]
    references: tuple[int, ...] = ()
    """0-based indices into the query's parameters, one an occurrence; one fewer than pieces."""

    def render(self, write: Callable[[int, int], str] | None = None) -> str:
        """The text with every parameter written by ``write(occurrence, parameter)``; without it as ``$1`` …."""
        if not self.references:
            return self.pieces[0]
        out = [self.pieces[0]]
        for occurrence, parameter in enumerate(self.references):
            out.append(write(occurrence, parameter) if write else f"${parameter + 1}")
            out.append(self.pieces[occurrence + 1])
        return "".join(out)


class Statement(msgspec.Struct, frozen=True, gc=False):
    """One SQL statement, without a trailing semicolon, and how its result can be selected from.

    What is wrapped around it is made of ``{prelude} SELECT <json of _gw> FROM {source} AS _gw``; see
    ``catalogue.wrapping``.
    """

    verb: Verb
    bare: Text
    """As written, without the semicolon."""
    prelude: Text | None = None
    """``WITH _gw AS (<newline>…<newline>)`` with data-modifying parts hoisted to the top; None for plain reads."""
    source: Text | None = None
    """``(<newline>…<newline>)`` or ``_gw``; None where nothing can be selected from (no RETURNING, CALL)."""
    counted: Text | None = None
    """``WITH _gw AS (<newline>… RETURNING …<newline>)``: an INSERT, UPDATE or DELETE whose rows can be counted by
    selecting from ``_gw``, whether it was written with a RETURNING or not; None for everything else."""
    functions: tuple[str, ...] = ()
    """Names of all functions called, as written (``lower``, ``app.audit``), sorted, each once; unquoted."""
    relations: tuple[str, ...] = ()
    """Names of all relations named, CTE names excluded, as written, sorted, each once."""


class Parameter(msgspec.Struct, frozen=True, gc=False):
    """A declared name and what is known of its values."""

    name: str
    type: str | None = None
    """PostgreSQL type as declared by ``@param``; None: learnt from the server."""
    default: str | None = None
    """JSON text of the default; None: the argument is required."""
    constraints: dict[str, Any] = {}
    """Any of minimum, maximum, minLength, maxLength, pattern, enum (JSON values)."""
    description: str = ""
    bound: str | None = None
    """``claim:PATH`` or ``key:NAME``: its value is what is known of the caller, and no argument; None: an argument."""


class Cache(msgspec.Struct, frozen=True, gc=False):
    """``@cache D [stale=D]``."""

    seconds: float
    """For which an answer is good."""
    stale: float = 0.0
    """For which it is given after that, while one call fetches another."""


class Order(msgspec.Struct, frozen=True, gc=False):
    """A column of the result that rows are sorted by."""

    column: str
    descends: bool = False

    def __str__(self) -> str:
        """The column, and its direction if that is not the ordinary one."""
        return f"{self.column} DESC" if self.descends else self.column


class Page(msgspec.Struct, frozen=True, gc=False):
    """``@page key(col [DESC], ...) size=N [max=N]``."""

    key: tuple[Order, ...]
    """No two rows have the same values in all of them."""
    size: int
    """Rows of a page, where its caller does not say."""
    most: int
    """Rows that a caller may ask for."""


class Sort(msgspec.Struct, frozen=True, gc=False):
    """One of the orders of ``@sort``."""

    name: str
    key: tuple[Order, ...]
    """Of pages: with those columns of the page's key that the sort does not name."""
    statement: Statement | None = None
    """The query's, in this order; None for pages, whose statements depend on where they begin."""


class Expect(msgspec.Struct, frozen=True, gc=False):
    """``@expect row``, ``@expect affected=N`` or ``@expect affected>=N``: how many rows a call answers or touches."""

    text: str
    """As it is written."""
    least: int
    most: int | None = None
    """None: any number."""

    @property
    def is_row(self) -> bool:
        """Whether it is about a row that is answered, and not about how many are touched."""
        return self.text == "row"


class Deprecation(msgspec.Struct, frozen=True, gc=False):
    """``@deprecated [since=DATE] [sunset=DATE] text``. Dates are ISO 8601, such as ``2026-12-31``."""

    text: str
    """What to use instead."""
    since: str | None = None
    sunset: str | None = None
    """When the query will be gone."""


class Query(msgspec.Struct, frozen=True, gc=False):
    """One named SQL statement, its parameters, its result kind, the group it runs in."""

    name: str
    kind: Kind
    access: Access
    statement: Statement
    timeout: float
    """Seconds in which a call must have been answered."""
    has_timeout: bool = False
    """Whether its file says so; a stream must be over by then only in that case."""
    parameters: tuple[Parameter, ...] = ()
    """In the order of ``$1``, ``$2`` …."""
    group: str = ""
    """Group to run in; by access where the query file names none."""
    description: str = ""
    roles: tuple[str, ...] = ()
    cache: Cache | None = None
    """How long its answers are kept; None: they are not."""
    max_rows: int | None = None
    tracked: bool = False
    retry_serialization: bool = False
    expect: Expect | None = None
    """What a call must come to; None: anything."""
    batch: bool | None = None
    join: bool | None = None
    """Whether different callers' calls may be answered by one statement; None: where that is proven to be safe."""
    coalesce: bool = False
    """Whether calls that ask for the same at the same time share one execution."""
    page: Page | None = None
    """Its rows are answered page by page; None: all at once."""
    sorts: tuple[Sort, ...] = ()
    """Orders that a caller may choose from, of which the first is the default; none: the statement's own."""

    rate: Rate | None = None
    """How often each caller may run it on a node."""
    concurrency: int | None = None
    """How many calls of it may run at once on a node."""
    media: str = ""
    """The media type of a scalar that may be asked for without JSON; empty: none."""
    deprecated: Deprecation | None = None
    tool: str | None = None
    """The title under which it is offered to agents, empty where it has none; None: it is not offered."""
    file: str = ""
    line: int = 0

    @property
    def tool_name(self) -> str:
        """The name as agents have it: several of them refuse a server one of whose tools has a dot in its name."""
        return self.name.replace(".", "_")


class Catalogue(msgspec.Struct, frozen=True, gc=False):
    """The immutable set of named queries, loaded once per process."""

    queries: dict[str, Query]
    hash: str
    """Hex digest over everything that changes how a query is served; independent of file paths and order."""
    warnings: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    """What an author may want to know of the queries: the names that numbered parameters were given."""
    left_out: dict[str, str] = {}
    """Names of entries that cannot be served and were to be skipped, with the reason of each."""
