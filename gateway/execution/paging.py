"""Runs pages of a query's rows, and knows the plans of queries whose callers choose an order or a page."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import msgspec
from msgspec.structs import replace

from gateway.catalogue.arguments import NULL, literal
from gateway.catalogue.paging import BETWEEN, keys_of
from gateway.catalogue.query import Query
from gateway.catalogue.types import Signature
from gateway.errors import ArgumentFault, GatewayError, InvalidArguments
from gateway.execution.call import Answer, PageCall, on_primary
from gateway.execution.cursors import Cursors, Position
from gateway.execution.freshness import newest_timeline
from gateway.execution.results import meet
from gateway.execution.running import Runner
from gateway.postgres import positions, single
from gateway.postgres.session import Session
from gateway.postgres.single import Result
from gateway.postgres.statement import Plan
from gateway.postgres.tokens import Token
from gateway.rotation.endpoint import Role
from gateway.rotation.rotation import Rotation


class Chosen(NamedTuple):
    """What runs for one call."""

    query: Query
    plan: Plan
    literals: Sequence[str]
    context: bytes | None = None
    """Of a page: what its cursors are good for."""
    after: Position | None = None
    """Behind what the page begins; None: with the first row."""


class Variants:
    """The plans of one query whose callers choose an order or a page; each is made when first asked for."""

    def __init__(
        self, query: Query, signature: Signature, *, bigint_as_string: bool, epoch: int, max_bytes: int | None
    ) -> None:
        self._query = query
        self._signature = signature
        self._bigint_as_string = bigint_as_string
        self._epoch = epoch
        self._max_bytes = max_bytes
        self._keys = keys_of(query)
        names = [parameter.name for parameter in query.parameters]
        self.types = dict(zip(names, signature.parameters, strict=True))
        """Of the query's own parameters."""
        self._sorts = {literal(sort.name): place for place, sort in enumerate(query.sorts)}
        self._sorted: dict[int, tuple[Query, Plan]] = {}
        self._pages: dict[tuple[int, tuple[bool, ...] | None], Plan] = {}

    def chosen(self, literals: Sequence[str], cursors: Cursors) -> Chosen:
        """Return what runs with these literals: the query's, then those of ``paging.own_parameters``.

        Raises InvalidArguments for a cursor that is none of this query with these arguments and this order.
        """
        query, count = self._query, len(self._query.parameters)
        given, own = list(literals[:count]), list(literals[count:])
        place = self._sorts.get(own.pop(0), 0) if self._sorts else 0
        if query.page is None:
            return Chosen(*self._in_order(place), given)
        size, cursor = own
        key = self._keys[place]
        context = msgspec.json.encode([query.name, place and query.sorts[place].name, list(map(str, key)), given])
        size = str(query.page.size) if size == NULL else size
        after = None
        if cursor != NULL:
            after = cursors.read(cursor[1:-1], context)
            if after is None or len(after.values) != len(key):
                told = "is no cursor of this query with these arguments and this order: begin again without one"
                raise InvalidArguments(f"cursor {told}", faults=[ArgumentFault("cursor", told)])
        values = () if after is None else after.values
        plan = self._of_page(place, None if after is None else tuple(value is not None for value in values))
        behind = [literal(value) for value in values if value is not None]
        return Chosen(query, plan, [*given, size, *behind], context, after)

    def _in_order(self, place: int) -> tuple[Query, Plan]:
        found = self._sorted.get(place)
        if found is None:
            statement = self._query.sorts[place].statement or self._query.statement
            query = replace(self._query, statement=statement)
            plan = Plan.of(
                query,
                self._signature,
                bigint_as_string=self._bigint_as_string,
                epoch=self._epoch,
                max_bytes=self._max_bytes,
            )
            found = self._sorted[place] = query, plan
        return found

    def _of_page(self, place: int, after: tuple[bool, ...] | None) -> Plan:
        plan = self._pages.get((place, after))
        if plan is None:
            plan = self._pages[place, after] = Plan.paged(
                self._query,
                self._signature,
                self._keys[place],
                after,
                bigint_as_string=self._bigint_as_string,
                epoch=self._epoch,
                max_bytes=self._max_bytes,
            )
        return plan


class Pages:
    """Runs pages."""

    def __init__(
        self,
        *,
        runner: Runner,
        rotation: Rotation,
        cursors: Cursors,
        max_result_bytes: int,
        run: Callable[..., Result] = single.run,
    ) -> None:
        """``run`` runs a plan on a connection."""
        self._runner = runner
        self._rotation = rotation
        self._cursors = cursors
        self._max_result_bytes = max_result_bytes
        self._run_plan = run

    def run(self, call: PageCall) -> Answer:
        """Run the call; raises a GatewayError."""
        asked = on_primary(call) if call.plan.only_primary else call
        (result, position), served = self._runner.read(asked, self._read)
        if call.query.expect is not None and call.begins:
            try:
                meet(call.query, call.query.expect, result.row_count)
            except GatewayError as error:
                raise error.but(served=served) from error
        cursor = self._cursor(call, result, self._token(served.endpoint, position))
        return Answer(body=encode(result, cursor), served=served, next=cursor)

    def _read(self, call: PageCall, connection: Session, guard: str) -> tuple[Result, tuple[int, int | None] | None]:
        result = self._run_plan(
            connection,
            call.plan,
            call.literals,
            deadline=call.deadline,
            client=call.client,
            max_bytes=self._max_result_bytes,
            guard=guard,
            settings=call.settings,
        )
        # Behind the read: the position must be no older than what was read.
        asks = _ends(result) and self._has_replicas
        return result, positions.shown(connection, call.deadline) if asks else None

    @property
    def _has_replicas(self) -> bool:
        views = self._rotation.views()
        return len(views) > 1 and any(view.role is Role.REPLICA for view in views)

    def _token(self, endpoint: str, position: tuple[int, int | None] | None) -> Token | None:
        """What a server must have replayed that is to show nothing older; None where that is not known."""
        view = self._rotation.view(endpoint)
        if position is None or view.system is None:
            return None
        timeline = position[1] or view.timeline or newest_timeline(self._rotation.views()) or 1
        return Token(int(view.system), timeline, position[0])

    def _cursor(self, call: PageCall, result: Result, token: Token | None) -> str | None:
        key = _ends(result)
        if not key:
            return None
        return self._cursors.write(Position(msgspec.json.decode(key, type=list[str | None]), token), call.context)


def _ends(result: Result) -> bytes:
    """The key of a page's last row; empty where no more rows come."""
    return result.text.partition(BETWEEN)[0]


def encode(result: Result, cursor: str | None) -> bytes:
    """The body of a page."""
    rows = result.text.partition(BETWEEN)[2]
    following = b"null" if cursor is None else b'"%b"' % cursor.encode()
    return b'{"rows":[%b],"row_count":%d,"next":%b}' % (rows, result.row_count, following)
