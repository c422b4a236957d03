"""From the steps of a transaction, as JSON, to what runs: every fault of every step is found before anything does."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import msgspec

from gateway.catalogue import json_text
from gateway.catalogue.query import Access, Catalogue, Query
from gateway.catalogue.references import Lookup, Reference, Shape, plain, read_reference
from gateway.catalogue.values import Refused
from gateway.errors import ArgumentFault, Forbidden, InvalidArguments, InvalidRequest, UnknownQuery
from gateway.execution.call import Caller
from gateway.execution.plans import Plans, Ready
from gateway.execution.results import encode_all
from gateway.execution.steps import constant, of_step, refused
from gateway.pool.pool import Pool
from gateway.postgres.session import Session
from gateway.postgres.single import Result
from gateway.postgres.work import Step, Work

ISOLATIONS = ("read committed", "repeatable read", "serializable")
_MEMBERS = ("steps", "isolation", "read_only")
_NOTHING = json_text.value("null")


class Asked(NamedTuple):
    """One step as the request has it."""

    query: Query
    ready: Ready
    arguments: dict[str, msgspec.Raw]
    """Null where there is a reference."""
    references: dict[str, Reference]
    """By parameter; what they point at becomes known on the way."""
    literals: Sequence[str]
    """Of the arguments; all there is to bind where nothing is referred to."""


class Planned(NamedTuple):
    """A transaction that can be run; its group is empty if it has no steps."""

    group: str
    queries: Sequence[Query]
    work: Work


class Transactions:
    """Reads transactions: which queries in which group, and what each step binds."""

    def __init__(self, *, catalogue: Catalogue, plans: Plans, pool: Pool[Session], max_batch: int) -> None:
        """``max_batch``: most steps."""
        self._queries = catalogue.queries
        self._plans = plans
        self._pool = pool
        self._max_batch = max_batch

    def read(self, members: Mapping[str, msgspec.Raw], *, caller: Caller, bigint_as_string: bool) -> Planned:
        """Plan the transaction of these members. Raises a GatewayError with everything that is wrong."""
        if unknown := [name for name in members if name not in _MEMBERS]:
            raise InvalidRequest(f"a transaction has {', '.join(_MEMBERS)}, not {unknown[0][:64]}")
        isolation = _member(members, "isolation", str, ISOLATIONS[0])
        if isolation not in ISOLATIONS:
            raise InvalidRequest(f"isolation is one of {', '.join(ISOLATIONS)}")
        read_only = _member(members, "read_only", bool, False)
        steps = self._steps(members.get("steps"), caller, bigint_as_string=bigint_as_string)
        lookups = _Lookups()
        queries = [step.query for step in steps]
        writes = any(query.access is Access.WRITE for query in queries)
        work = Work(
            steps=[Step(asked.ready.plan, _binding(steps, index, lookups)) for index, asked in enumerate(steps)],
            encode=lambda results: encode_all(queries, results, committed=writes),
            begin=f"BEGIN ISOLATION LEVEL {isolation.upper()}{'' if writes else ' READ ONLY'}",
            tracked=writes,
        )
        on_primary = isolation == "serializable"
        group = self._group(queries, read_only=read_only, on_primary=on_primary) if queries else ""
        return Planned(group, queries, work)

    # --- what is asked for -------------------------------------------------------------------------------------

    def _steps(self, raw: msgspec.Raw | None, caller: Caller, *, bigint_as_string: bool) -> list[Asked]:
        """All steps, checked; raises with every fault of all their arguments."""
        elements = None if raw is None else json_text.elements(raw)
        if elements is None:
            raise InvalidRequest("steps must be a list")
        if len(elements) > self._max_batch:
            raise InvalidRequest(f"{len(elements)} steps, at most {self._max_batch} are run in a transaction")
        named = [self._named(step, element, caller) for step, element in enumerate(elements)]
        asked: list[Asked] = []
        faults: list[ArgumentFault] = []
        shapes: list[Shape] = []
        for step, (query, arguments) in enumerate(named):
            ready = self._plans.get(query, caller, bigint_as_string=bigint_as_string)
            given, references, wrong = _resolved(arguments, shapes)
            literals: Sequence[str] = ()
            try:
                # NULL fits everywhere, so it stands for what is not known yet.
                literals = ready.binder.bind_json(given)
            except InvalidArguments as error:
                wrong += error.faults
            except Forbidden as error:
                raise error.but(step=step) from error
            faults += of_step(wrong, step)
            asked.append(Asked(query, ready, given, references, literals))
            shapes.append(Shape(query.kind, [column.name for column in ready.plan.columns]))
        if faults:
            raise refused(faults)
        return asked

    def _named(self, step: int, raw: msgspec.Raw, caller: Caller) -> tuple[Query, dict[str, msgspec.Raw]]:
        """The query and the arguments of one step; raises InvalidRequest, UnknownQuery or Forbidden, with the step."""
        try:
            query, arguments = self._read(raw)
        except (InvalidRequest, UnknownQuery) as error:
            raise error.but(step=step) from error
        if not caller.has_any(query.roles):
            raise Forbidden(f"{query.name} is for callers with another role", step=step)
        if query.page is not None or query.sorts:
            raise InvalidRequest(f"{query.name} is no step: its callers choose an order or a page", step=step)
        return query, arguments

    def _read(self, raw: msgspec.Raw) -> tuple[Query, dict[str, msgspec.Raw]]:
        members = json_text.members(raw)
        if members is None or "query" not in members or members.keys() - {"query", "arguments"}:
            raise InvalidRequest('a step is {"query": NAME, "arguments": {...}}')
        query = self._queries.get(_member(members, "query", str, ""))
        if query is None:
            raise UnknownQuery("the catalogue has no query of the name in this step")
        arguments = json_text.members(members["arguments"]) if "arguments" in members else {}
        if arguments is None:
            raise InvalidRequest("arguments must be a JSON object")
        return query, arguments

    # --- where it runs -----------------------------------------------------------------------------------------

    def _group(self, queries: Sequence[Query], *, read_only: bool, on_primary: bool) -> str:
        """The group that can run all of these; raises InvalidRequest.

        A serializable transaction cannot run on a replica, even if it only reads.
        """
        if read_only:
            for step, query in enumerate(queries):
                if query.access is Access.WRITE:
                    raise _misplaced("it writes, and the transaction is read_only", step)
        access = Access.READ if read_only else Access.WRITE
        chosen = next((query.group for query in queries if query.access is access), "")
        if not chosen or (read_only and on_primary):
            writing = [name for name, group in self._pool.groups.items() if group.access_write]
            chosen = "write" if "write" in writing else next(iter(writing), chosen)
        if not chosen:
            raise InvalidRequest("there is no group for a transaction that is not read_only")
        endpoints = set(self._pool[chosen].endpoints)
        for step, query in enumerate(queries):
            if query.access is Access.WRITE and query.group != chosen:
                raise _misplaced(f"it runs in the group {query.group}, other steps in {chosen}", step)
            if not endpoints & set(self._pool[query.group].endpoints):
                raise _misplaced(f"it runs on other endpoints than the group {chosen} has", step)
        return chosen


def _misplaced(sentence: str, step: int) -> InvalidRequest:
    return InvalidRequest(f"the query of step {step}: {sentence}", step=step)


def _member(members: Mapping[str, msgspec.Raw], name: str, kind: type[Any], default: Any) -> Any:
    """One member of an object, of this JSON type; raises InvalidRequest."""
    raw = members.get(name)
    if raw is None:
        return default
    try:
        return msgspec.json.decode(raw, type=kind)
    except msgspec.DecodeError:
        raise InvalidRequest(f"{name} must be a {'string' if kind is str else 'boolean'}") from None


def _resolved(
    arguments: Mapping[str, msgspec.Raw], before: Sequence[Shape]
) -> tuple[dict[str, msgspec.Raw], dict[str, Reference], list[ArgumentFault]]:
    """Arguments without escapes, null for references; the references; and what is wrong with them."""
    given: dict[str, msgspec.Raw] = {}
    references: dict[str, Reference] = {}
    faults: list[ArgumentFault] = []
    for name, raw in arguments.items():
        given[name] = _NOTHING
        try:
            value, pointer = plain(raw)
            if pointer is None:
                given[name] = value
            else:
                references[name] = read_reference(pointer, before)
        except Refused as wrong:
            faults.append(ArgumentFault(name, str(wrong)))
    return given, references, faults


class _Lookups:
    """What references of one request share: a lookup for the results there are now."""

    def __init__(self) -> None:
        self._results: Sequence[Result] = ()
        self._lookup = Lookup()

    def of(self, results: Sequence[Result]) -> Lookup:
        """The lookup in these results, which grow while a transaction runs; another run has others."""
        if results is not self._results:
            self._results, self._lookup = results, Lookup()
        return self._lookup


def _binding(steps: Sequence[Asked], index: int, lookups: _Lookups) -> Any:
    """How a step gets its literals: from the results before it, if it refers to any."""
    _, ready, arguments, references, literals = steps[index]
    if not references:
        return constant(literals)

    def bind(results: Sequence[Result]) -> Sequence[str]:
        faults: list[ArgumentFault] = []
        found: dict[str, msgspec.Raw] = {}
        lookup = lookups.of(results)
        for name, reference in references.items():
            kind, result = steps[reference.step].query.kind, results[reference.step]
            try:
                found[name] = lookup.look(reference, kind, result.text, result.row_count)
            except Refused as wrong:
                faults.append(ArgumentFault(name, str(wrong)))
        if not faults:
            try:
                return ready.binder.bind_json({**arguments, **found})
            except InvalidArguments as error:
                faults += error.faults
        raise refused(of_step(faults, index))

    return bind
