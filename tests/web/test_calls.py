"""Which call a request becomes."""

from typing import Any

import falcon
import falcon.testing
import msgspec
import pytest

from gateway import errors
from gateway.catalogue.query import Catalogue, Query
from gateway.errors import GatewayError
from gateway.execution.call import ANONYMOUS, SingleCall, TransactionCall
from gateway.execution.cursors import Cursors
from gateway.execution.freshness import Freshness
from gateway.execution.plans import Plans
from gateway.execution.transactions import Transactions
from gateway.postgres.tokens import Token
from gateway.settings import ServerSettings
from gateway.web.calls import Calls
from tests.execution.samples import SIGNATURE, query

TOKEN = str(Token(system=7, timeline=1, position=500))
QUERIES = [query(), query("pay", write=True), query("tracked", write=True, tracked=True)]


SERVER = ServerSettings(timeout=3.0, max_body=1000, max_batch=3)


def calls() -> Calls:
    left_out = {"load": "a.sql:1: result kind :copyfrom cannot be served"}
    catalogue = Catalogue(queries={asked.name: asked for asked in QUERIES}, hash="h", left_out=left_out)
    plans = Plans(catalogue)
    for name in catalogue.queries:
        plans.learnt(name, SIGNATURE, at=0.0)
    groups: Any = {"read": Group(), "write": Group(access_write=True)}
    pool: Any = Pool(groups)
    transactions = Transactions(catalogue=catalogue, plans=plans, pool=pool, max_batch=3)
    return Calls(catalogue=catalogue, plans=plans, transactions=transactions, server=SERVER, cursors=Cursors(b"secret"))


class Group(msgspec.Struct):
    """As much of a group as the place of a transaction depends on."""

    access_write: bool = False
    endpoints: tuple[str, ...] = ("primary",)


class Pool(msgspec.Struct):
    groups: dict[str, Group]

    def __getitem__(self, name: str) -> Group:
        return self.groups[name]


def request(body: str = "", *, path: str = "/query/orders", text: str = "", **headers: str) -> falcon.Request:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    asked = falcon.Request(
        falcon.testing.create_environ(path, method="POST", body=body, query_string=text, headers=named)
    )
    asked.context.arrived = 1000.0
    asked.context.request_id = "r-1"
    asked.context.caller = ANONYMOUS
    return asked


def single(asked: falcon.Request, name: str = "orders") -> SingleCall:
    call = calls().of_body(asked, name)
    assert isinstance(call, SingleCall)
    return call


def transaction(asked: falcon.Request, name: str = "pay") -> TransactionCall:
    call = calls().of_body(asked, name)
    assert isinstance(call, TransactionCall)
    return call


class TestSingleCalls:
    def test_one_object_is_one_call_with_its_literals(self) -> None:
        call = single(request('{"id": 7}'))
        assert (call.query.name, call.literals, call.group) == ("orders", ["'7'"], "read")
        assert (call.caller, call.request_id, call.freshness, call.applied) == (ANONYMOUS, "r-1", None, "")

    def test_its_deadline_counts_from_its_arrival(self) -> None:
        assert single(request('{"id": 7}')).deadline == 1002.0

    def test_a_caller_that_waits_for_less_gets_less(self) -> None:
        asked = request('{"id": 7}', Prefer="wait=0.5")
        call = single(asked)
        assert (call.deadline, call.applied) == (1000.5, "wait=0.5")
        assert asked.env["gateway.deadline"] == 1000.5

    def test_fresh_data_can_be_asked_for(self) -> None:
        asked = request('{"id": 7}', Gateway_Consistency_Token=TOKEN, Prefer="max-staleness=0.5")
        assert single(asked).freshness == Freshness(max_lag=500.0, token=Token(system=7, timeline=1, position=500))

    def test_the_query_string_makes_the_same_call(self) -> None:
        call = calls().of_query_string(request(text="id=7"), "orders")
        assert isinstance(call, SingleCall)
        assert (call.query.name, call.literals, call.deadline) == ("orders", ["'7'"], 1002.0)

    def test_a_write_is_not_for_the_query_string(self) -> None:
        with pytest.raises(falcon.HTTPMethodNotAllowed):
            calls().of_query_string(request(text="id=7"), "pay")


class TestTransactionCalls:
    def test_a_list_is_one_transaction_with_a_step_an_object(self) -> None:
        call = transaction(request('[{"id": 7}, {"id": 8}]'))
        assert [step.bind(()) for step in call.work.steps] == [["'7'"], ["'8'"]]
        assert (call.work.begin, call.work.tracked, call.work.claim) == ("BEGIN", True, None)
        assert [asked.name for asked in call.queries] == ["pay", "pay"]

    def test_a_list_of_reads_is_a_read_only_transaction(self) -> None:
        call = transaction(request('[{"id": 7}]'), "orders")
        assert (call.work.begin, call.work.tracked) == ("BEGIN READ ONLY", False)

    def test_a_write_with_a_key_claims_it_for_its_caller(self) -> None:
        claim = transaction(request('{"id": 7}', Idempotency_Key="k")).work.claim
        assert claim is not None
        assert (claim.caller, claim.key) == ("", "k")

    def test_the_claim_is_of_what_was_sent_to_where(self) -> None:
        hashes = {
            claim.request_hash
            for asked in (
                request('{"id": 7}', Idempotency_Key="k"),
                request('{"id": 8}', Idempotency_Key="k"),
                request('{"id": 7}', path="/query/other", Idempotency_Key="k"),
            )
            if (claim := transaction(asked).work.claim) is not None
        }
        assert len(hashes) == 3

    def test_a_key_means_nothing_for_a_read(self) -> None:
        assert single(request('{"id": 7}', Idempotency_Key="k")).query.name == "orders"

    def test_a_tracked_write_is_a_transaction_whose_failures_name_no_step(self) -> None:
        work = transaction(request('{"id": 7}'), "tracked").work
        assert (work.tracked, work.numbered, len(work.steps)) == (True, False, 1)

    def test_steps_run_in_the_group_that_writes(self) -> None:
        steps = '{"steps": [{"query": "orders", "arguments": {"id": 1}}, {"query": "pay", "arguments": {"id": 2}}]}'
        call = calls().of_transaction(request(steps, Idempotency_Key="k"))
        assert (call.group, [asked.name for asked in call.queries]) == ("write", ["orders", "pay"])
        assert call.work.begin == "BEGIN ISOLATION LEVEL READ COMMITTED"
        assert call.work.claim is not None

    def test_steps_that_only_read_claim_no_key(self) -> None:
        steps = '{"steps": [{"query": "orders", "arguments": {"id": 1}}], "read_only": true}'
        call = calls().of_transaction(request(steps, Idempotency_Key="k"))
        assert (call.group, call.work.claim) == ("read", None)

    @pytest.mark.parametrize("body", ["[]", " [ ] "])
    def test_an_empty_list_is_a_transaction_without_steps(self, body: str) -> None:
        call = transaction(request(body))
        assert (call.work.steps, call.work.encode(())) == ([], b'{"results":[]}')


def test_a_query_that_was_left_out_is_unknown_and_says_where_the_reason_is() -> None:
    with pytest.raises(errors.UnknownQuery) as caught:
        calls().of_body(request("{}"), "load")
    assert caught.value.detail.endswith("the gateway said why when it started")


REFUSED: list[tuple[falcon.Request, str, type[GatewayError]]] = [
    (request('{"id": 7}'), "no_such_query", errors.UnknownQuery),
    (request('{"id": "seven"}'), "orders", errors.InvalidArguments),
    (request('{"id": 7'), "orders", errors.InvalidJSON),
    (request("{}" + " " * 1000), "orders", errors.BodyTooLarge),
    (request('[{"id": 1}, {"id": 2}, {"id": 3}, {"id": 4}]'), "pay", errors.InvalidRequest),
    (request('{"id": 7}', Accept="text/csv"), "orders", errors.NotAcceptable),
    (request('{"id": 7}', Content_Type="text/csv"), "orders", errors.UnsupportedMediaType),
    (request('{"id": 7}', Idempotency_Key="k" * 256), "pay", errors.InvalidRequest),
    (request('{"id": 7}', Gateway_Consistency_Token="nonsense"), "orders", errors.InvalidRequest),  # noqa: S106 - no secret
    (request('{"id": 7}', Prefer="wait=never"), "orders", errors.InvalidRequest),
]


@pytest.mark.parametrize(("asked", "name", "error"), REFUSED, ids=lambda value: getattr(value, "code", None))
def test_what_cannot_be_run_is_refused(asked: falcon.Request, name: str, error: type[GatewayError]) -> None:
    with pytest.raises(error):
        calls().of_body(asked, name)


def test_a_query_that_was_not_learnt_is_not_available_yet() -> None:
    unknown: dict[str, Query] = {"orders": query()}
    catalogue = Catalogue(queries=unknown, hash="h")
    nothing: Any = None
    made = Calls(catalogue=catalogue, plans=Plans(catalogue), transactions=nothing, server=SERVER, cursors=Cursors(b""))
    with pytest.raises(errors.BackendUnavailable):
        made.of_body(request('{"id": 7}'), "orders")
