"""From a request to a call: every call that comes over HTTP is made here."""

from collections.abc import Callable, Collection, Mapping, Sequence
from functools import partial
from math import inf
from typing import Any, TypeVar

import falcon
from msgspec import Raw

from gateway.auth.limits import Limits
from gateway.catalogue.exporting import Format
from gateway.catalogue.json_text import begins_list, split_list, split_object
from gateway.catalogue.query import TOOL_KEY, Access, Catalogue, Query
from gateway.errors import Forbidden, InvalidRequest, NotAcceptable, UnknownQuery, UnsupportedMediaType
from gateway.execution import works
from gateway.execution.call import (
    JSON,
    AnyCall,
    BulkCall,
    Call,
    Caller,
    PageCall,
    RawCall,
    SingleCall,
    StreamCall,
    TransactionCall,
)
from gateway.execution.cursors import Cursors, newest
from gateway.execution.freshness import Freshness
from gateway.execution.paging import Variants
from gateway.execution.plans import Plans
from gateway.execution.transactions import Transactions
from gateway.postgres.idempotency import Claim
from gateway.postgres.statement import Plan
from gateway.postgres.work import Work
from gateway.settings import ServerSettings
from gateway.web import asking, bodies, bulk, links, tracing
from gateway.web.asking import Asked
from gateway.web.bulk import Records
from gateway.web.preferences import NONE

K = TypeVar("K", bound=Call)


class Calls:
    """Makes calls: finds the query, reads what the headers ask for, binds the arguments, fixes the deadline."""

    def __init__(
        self,
        *,
        catalogue: Catalogue,
        plans: Plans,
        transactions: Transactions,
        server: ServerSettings,
        asking: Collection[str] = (),
        limits: Limits | None = None,
        cursors: Cursors,
    ) -> None:
        """``server``: the limits; its ``timeout`` is that of a transaction of no queries.

        ``asking``: groups whose statements want to know their caller (``[groups.NAME] settings``).
        ``limits``: None where nobody's calls are counted. ``cursors``: reads those of pages.
        """
        self._limits = limits
        self._cursors = cursors
        self._asking = frozenset(asking)
        self._queries = catalogue.queries
        self._left_out = catalogue.left_out
        self._plans = plans
        self._transactions = transactions
        self._server = server
        self._rollback_roles = frozenset(server.rollback_roles)
        self._nothing_asked = Asked(NONE, None, server.bigint == "string")
        self._timeout = server.timeout
        self._max_body = server.max_body
        self._max_batch = server.max_batch

    def of_body(self, request: falcon.Request, name: str) -> AnyCall:
        """The call of a query with the arguments in the body, or with each object of the list in it.

        Raises a GatewayError with everything that is wrong.
        """
        query = self._find(name, request.context.caller)
        media = request.env.get("CONTENT_TYPE")
        if media is not None and media != JSON and (records := bulk.format_of(media)) is not None:
            return self._of_records(request, query, records)
        body = bodies.read_json(request, self._max_body)
        wanted = asking.wanted(request, query) if "HTTP_ACCEPT" in request.env else None
        if body[:1] != b"{" and begins_list(body):  # PERF: nearly every body begins with its object
            if wanted is not None:
                raise NotAcceptable("what a list answers is application/json")
            return self._of_list(request, query, body)
        asked = self._asked(request)
        if query.access is Access.WRITE and (
            "HTTP_IDEMPOTENCY_KEY" in request.env or asking.commits_apart(query, asked)
        ):
            claim = asking.claim_of(request, body)
            return self._of_transaction_of_one(request, query, split_object(body), asked, claim)
        plan, binder, _, variants = self._plans.get(query, request.context.caller, bigint_as_string=asked.big_as_text)
        arguments = split_object(body)
        literals = binder.bind_json(arguments)
        if variants is not None:
            link = partial(links.of_json, arguments, variants.types)
            return self._of_variant(request, asked, variants, literals, wanted, link)
        if wanted is None:  # PERF: as _of_one() does
            return self._made(
                SingleCall, request, asked, query.group, query.timeout, query=query, plan=plan, literals=literals
            )
        return self._of_one(request, query, asked, plan, literals, wanted)

    def of_query_string(self, request: falcon.Request, name: str) -> AnyCall:
        """The call of a read with the arguments in the query string. Raises a GatewayError, MethodNotAllowed too."""
        query = self._find(name, request.context.caller)
        if query.access is Access.WRITE:
            raise _writes(name)
        arguments = asking.query_string(request.query_string)
        wanted = asking.wanted(request, query)
        asked = self._asked(request)
        plan, binder, _, variants = self._plans.get(query, request.context.caller, bigint_as_string=asked.big_as_text)
        literals = binder.bind_text(arguments)
        if variants is not None:
            link = partial(links.of_text, arguments)
            return self._of_variant(request, asked, variants, literals, wanted, link)
        return self._of_one(request, query, asked, plan, literals, wanted)

    def require_read(self, request: falcon.Request, name: str) -> None:
        """Raise MethodNotAllowed for a query that writes, or a GatewayError where the caller may not call it."""
        if self._find(name, request.context.caller).access is Access.WRITE:
            raise _writes(name)

    def methods(self, request: falcon.Request, name: str) -> Sequence[str]:
        """By which methods a query may be called; raises a GatewayError where the caller may not call it."""
        is_write = self._find(name, request.context.caller).access is Access.WRITE
        return ("POST",) if is_write else ("GET", "HEAD", "POST", "QUERY")

    def of_tool(self, request: falcon.Request, query: Query, arguments: Mapping[str, Raw]) -> AnyCall:
        """The call of a query that an agent asks for, with int8 and numeric as strings; raises a GatewayError.

        Among the arguments of a write may be its idempotency key.
        """
        self._find(query.name, request.context.caller)
        asked = self._asked(request)
        if not asked.big_as_text or asked.preferences.bigint is not None:
            asked = asked._replace(big_as_text=True, preferences=asked.preferences._replace(bigint=None))
        if query.access is Access.WRITE:
            claim = asking.claim_of_tool(request, query, arguments)
            arguments = {name: raw for name, raw in arguments.items() if name != TOOL_KEY}
            if claim is not None or asking.commits_apart(query, asked):
                return self._of_transaction_of_one(request, query, arguments, asked, claim)
        plan, binder, _, variants = self._plans.get(query, request.context.caller, bigint_as_string=True)
        literals = binder.bind_json(arguments)
        if variants is not None:
            return self._of_variant(request, asked, variants, literals, None, lambda: None)
        return self._of_one(request, query, asked, plan, literals, None)

    def to_explain(self, request: falcon.Request, name: str) -> SingleCall:
        """The call of a query that is to be explained, with the arguments in the body: JSON, or a form."""
        query = self._find(name, request.context.caller)
        ready = self._plans.get(query)
        if request.content_type == falcon.MEDIA_URLENCODED:
            form = bodies.read(request, self._max_body)
            literals: Sequence[str] = ready.binder.bind_text(asking.query_string(form.decode("latin-1")))
        else:
            literals = ready.binder.bind_json(split_object(bodies.read_json(request, self._max_body)))
        plan = ready.plan
        if ready.variants is not None:
            query, plan, literals, *_ = ready.variants.chosen(literals, self._cursors)
        nothing = self._nothing_asked
        return self._made(
            SingleCall, request, nothing, query.group, query.timeout, query=query, plan=plan, literals=literals
        )

    def of_transaction(self, request: falcon.Request) -> TransactionCall:
        """The call of the steps in the body. Raises a GatewayError with everything that is wrong."""
        body = bodies.read_json(request, self._max_body)
        asking.require_json(request)
        asked = self._asked(request)
        group, queries, work = self._transactions.read(
            split_object(body), caller=request.context.caller, bigint_as_string=asked.big_as_text
        )
        claim = asking.claim_of(request, body) if work.writes else None
        return self._made(
            TransactionCall,
            request,
            asked,
            group,
            max((query.timeout for query in queries), default=self._timeout),
            queries=queries,
            work=asking.limited(work._replace(claim=claim), queries, asked),
            retries=any(query.retry_serialization for query in queries),
        )

    def _of_list(self, request: falcon.Request, query: Query, body: bytes) -> TransactionCall:
        """Each object of a list: all or nothing."""
        asked = self._asked(request)
        claim = asking.claim_of(request, body) if query.access is Access.WRITE else None
        if query.page is not None or query.sorts:
            raise InvalidRequest(f"{query.name} takes one object of arguments: its callers choose an order or a page")
        ready = self._plans.get(query, request.context.caller, bigint_as_string=asked.big_as_text)
        elements = split_list(body)
        if len(elements) > self._max_batch:
            raise InvalidRequest(f"{len(elements)} objects in the list, at most {self._max_batch} are run at once")
        work = works.of_list(query, ready, elements, claim)
        return self._of_work(request, query, asked, work)

    def _of_transaction_of_one(
        self,
        request: falcon.Request,
        query: Query,
        arguments: Mapping[str, Raw],
        asked: Asked,
        claim: Claim | None,
    ) -> TransactionCall:
        """A write whose COMMIT is a message of its own."""
        ready = self._plans.get(query, request.context.caller, bigint_as_string=asked.big_as_text)
        return self._of_work(
            request, query, asked, works.of_one(query, ready, ready.binder.bind_json(arguments), claim)
        )

    def _of_work(self, request: falcon.Request, query: Query, asked: Asked, work: Work) -> TransactionCall:
        """The call of a query that is run once for each step."""
        queries = [query] * len(work.steps)
        return self._made(
            TransactionCall,
            request,
            asked,
            query.group,
            query.timeout,
            queries=queries,
            work=asking.limited(work, queries, asked),
            retries=query.retry_serialization,
        )

    def _of_records(self, request: falcon.Request, query: Query, written: Format) -> BulkCall:
        """A write that is run for each record of the body, which is read while it runs."""
        if query.access is not Access.WRITE:
            raise UnsupportedMediaType(f"{query.name} reads, and takes its arguments as {JSON}")
        if query.expect is not None:
            raise UnsupportedMediaType(f"{query.name} expects something of each call: send a list of objects as {JSON}")
        asking.require_json(request)
        bodies.require_plain(request)
        asked, server = self._asked(request), self._server
        if asked.preferences.rolls_back:
            raise InvalidRequest("Prefer: tx=rollback is for single calls, lists and transactions, not for records")
        ready = self._plans.get(query)
        claim = asking.claim_of(request, b"")
        records = Records(
            request.env["wsgi.input"].read,
            written,
            query,
            ready.binder,
            prefix=asking.begins_hash(request),
            announced=request.content_length,
            longest=server.max_body,
            most=(server.max_bulk, server.max_bulk_rows),
        )
        ends = query.has_timeout or asked.preferences.wait is not None
        call = self._made(
            BulkCall,
            request,
            asked,
            query.group,
            query.timeout,
            query=query,
            plan=ready.plan,
            summing=self._plans.summing(query),
            records=records.literals(),
            drain=records.drain,
            digest=records.digest,
            claim=None if claim is None else claim._replace(request_hash=""),
            most=asked.preferences.max_affected,
            ends=ends,
        )
        if not ends:
            request.env["gateway.deadline"] = inf
        return call

    def _of_one(
        self,
        request: falcon.Request,
        query: Query,
        asked: Asked,
        plan: Plan,
        literals: Sequence[str],
        wanted: Format | str | None,
    ) -> SingleCall | StreamCall | RawCall:
        """The call of a query with one set of arguments; ``wanted``: what is answered, None for JSON."""
        what = {"query": query, "plan": plan, "literals": literals}
        if wanted is None:
            return self._made(SingleCall, request, asked, query.group, query.timeout, **what)
        if not isinstance(wanted, Format):
            return self._made(RawCall, request, asked, query.group, query.timeout, **what)
        ends = query.has_timeout or asked.preferences.wait is not None
        call = self._made(StreamCall, request, asked, query.group, query.timeout, wanted=wanted, ends=ends, **what)
        if not ends:
            request.env["gateway.deadline"] = inf
        return call

    def _of_variant(
        self,
        request: falcon.Request,
        asked: Asked,
        variants: Variants,
        literals: Sequence[str],
        wanted: Format | str | None,
        link: Callable[[], str | None],
    ) -> AnyCall:
        """The call of a read whose caller chooses an order or a page."""
        query, plan, literals, context, after = variants.chosen(literals, self._cursors)
        if context is None:
            return self._of_one(request, query, asked, plan, literals, wanted)
        if wanted is not None:
            raise NotAcceptable("a page is answered as application/json")
        if after is not None and after.token is not None:
            fresh = asked.freshness or Freshness()
            asked = asked._replace(freshness=fresh._replace(token=newest(after.token, fresh.token)))
        what = {"query": query, "plan": plan, "literals": literals, "context": context, "link": link()}
        return self._made(PageCall, request, asked, query.group, query.timeout, begins=after is None, **what)

    def _made(self, kind: type[K], request: falcon.Request, asked: Asked, group: str, seconds: float, **what: Any) -> K:
        """The call, with all that calls have in common. ``seconds``: how long its queries may take.

        It is counted with its caller's (raises RateLimited), and left as ``context.call`` for whoever reports the
        request.
        """
        wishes, context, env = asked.preferences, request.context, request.env
        if "HTTP_TRACEPARENT" in env and (traceparent := tracing.sampled(env)):
            tracing.carry(what, traceparent)
        if self._asking:
            what["settings"] = self._settings_of(context.caller, group, what)
        if self._limits is not None:
            address = env.get("REMOTE_ADDR", "")
            if "query" in what:
                what["allowances"] = self._limits.charge_one(what["query"], context.caller, address)
            else:
                what["allowances"] = self._limits.charge(what["queries"], context.caller, address)
        context.call = call = kind(
            group=group,
            deadline=asking.deadline_of(request, seconds, wishes),
            client=env["gateway.client"] if "gateway.client" in env else asking.client_of(env),
            caller=context.caller,
            request_id=context.request_id,
            freshness=asked.freshness,
            applied="" if wishes is NONE else wishes.applied,
            **what,
        )
        return call

    def _settings_of(self, caller: Caller, group: str, what: Mapping[str, Any]) -> Mapping[str, str]:
        """What goes in front of the call's statements; raises Forbidden.

        SECURITY: a step is told its caller wherever it runs, if the group that it is in otherwise asks for that.
        """
        groups = {group, *(query.group for query in what.get("queries", ()))}
        if self._asking.isdisjoint(groups):
            return {}
        if caller.settings is None:
            raise Forbidden("the caller has no role of the database's; see [auth] database_roles")
        return caller.settings

    def _asked(self, request: falcon.Request) -> Asked:
        env = request.env
        if "HTTP_PREFER" not in env and "HTTP_GATEWAY_CONSISTENCY_TOKEN" not in env:
            return self._nothing_asked
        return asking.asked_by(request, self._nothing_asked, self._rollback_roles)

    def _find(self, name: str, caller: Caller) -> Query:
        query = self._queries.get(name)
        if query is None and name in self._left_out:
            raise UnknownQuery("the query files have it, but it cannot be served: the gateway said why when it started")
        if query is None:
            raise UnknownQuery("the catalogue has no query of this name; GET /queries lists what there is")
        if query.roles and not caller.has_any(query.roles):
            raise Forbidden(f"{name} is for callers with another role")
        return query


def _writes(name: str) -> falcon.HTTPMethodNotAllowed:
    return falcon.HTTPMethodNotAllowed(["POST"], description=f"{name} writes: use POST")
