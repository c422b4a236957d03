"""What an interruption or a refusal is called, and what is known of a write."""

from types import SimpleNamespace
from typing import Any

import psycopg2
import pytest

from gateway import errors
from gateway.catalogue.query import Kind, Text
from gateway.catalogue.types import Family, Form, Type
from gateway.errors import GatewayError, Outcome
from gateway.postgres.attributing import refused_arguments
from gateway.postgres.failures import Stage, input_fault, interrupted, refused, wrong_arguments
from gateway.postgres.statement import Plan


@pytest.mark.parametrize(
    ("stage", "outcome"),
    [
        (Stage.PREPARING, Outcome.NOT_EXECUTED),
        (Stage.OPEN, Outcome.ROLLED_BACK),
        (Stage.COMMITTING, Outcome.UNKNOWN),
    ],
)
def test_a_deadline_leaves_a_write_as_far_as_it_had_come(stage: Stage, outcome: Outcome) -> None:
    assert interrupted(deadline=True, write=True, stage=stage).outcome is outcome
    assert interrupted(deadline=True, write=False, stage=stage).outcome is None


def test_an_interruption_is_the_deadlines_or_the_clients() -> None:
    assert isinstance(interrupted(deadline=True, write=False, stage=Stage.OPEN), errors.DeadlineExceeded)
    assert isinstance(interrupted(deadline=False, write=False, stage=Stage.OPEN), errors.ClientGone)


class TooMuch(psycopg2.Error):
    """What the server says when more than 1 GB is to be put together; the real one takes 2 GB of memory to raise."""

    pgcode = "54000"
    diag: Any = SimpleNamespace(source_function="enlargeStringInfo", message_primary="string buffer exceeds ...")


def test_a_result_that_the_server_cannot_put_together_is_too_large() -> None:
    error = TooMuch()
    explained = refused(error, write=True, stage=Stage.COMMITTING, late=False, replica=False)
    assert isinstance(explained, errors.ResultTooLarge)
    assert explained.outcome is Outcome.ROLLED_BACK
    error.diag = SimpleNamespace(source_function="repeat", message_primary="requested length too large")
    explained = refused(error, write=False, stage=Stage.COMMITTING, late=False, replica=False)
    assert isinstance(explained, errors.InvalidArguments)


@pytest.mark.parametrize(
    ("sqlstate", "message"),
    [
        ("22003", "is out of range for int"),
        ("22P02", "is not a valid int"),
        ("42601", "is not a valid int"),
        ("23514", "does not satisfy the constraints of int"),
        ("22001", "is too long"),
        ("23502", "must not be null"),
    ],
)
def test_the_servers_objection_to_an_argument_in_our_words(sqlstate: str, message: str) -> None:
    fault = input_fault("p", "int", sqlstate)
    assert (fault.parameter, fault.message) == ("p", message)


def test_a_refusal_whose_cause_were_arguments_keeps_what_is_known_of_the_write() -> None:
    broken = errors.QueryBroken("x", outcome=Outcome.ROLLED_BACK, sqlstate="42601", server_message="syntax error")
    wrong = wrong_arguments(broken, [input_fault(name, "tsquery", "42601") for name in "abcd"])
    assert isinstance(wrong, errors.InvalidArguments)
    assert (wrong.outcome, wrong.sqlstate, wrong.server_message) == (Outcome.ROLLED_BACK, "42601", "syntax error")
    assert [fault.parameter for fault in wrong.faults] == ["a", "b", "c", "d"]
    assert wrong.detail.endswith("; and 1 more")


def plan(*types: str) -> Plan:
    return Plan(
        query="q",
        name="gw_0123456789abcdef",
        form=Form.WRAPPED,
        kind=Kind.MANY,
        write=False,
        harmless=True,
        text=Text(("",)),
        parameters=tuple(f"p{number}" for number in range(len(types))),
        types=tuple(Type(name, f"pg_catalog.{name}", Family.OTHER) for name in types),
        columns=(),
        big_as_text=False,
        tag="",
    )


class Server:
    """Answers as PostgreSQL does: refuses every cast of 'bad', and says so softly where it can."""

    def __init__(self, *, hard_types: tuple[str, ...] = (), lost: bool = False) -> None:
        self.asked: list[str] = []
        self._hard_types = hard_types
        self._lost = lost

    def __call__(self, sql: str) -> list[tuple[str | None, ...]]:
        self.asked.append(sql)
        if self._lost:
            raise errors.ConnectionLost("gone")
        if "pg_input_error_info" not in sql:
            if "'bad'" in sql:
                raise errors.InvalidArguments("no", sqlstate="22P02")
            return [("f",)]
        if any(name in sql for name in self._hard_types):
            raise errors.InvalidArguments("hard", sqlstate="XX000")
        looks = sql.split(" UNION ALL ")
        return [(look.split("'")[1], "22P02" if "'bad'" in look else None) for look in looks]


@pytest.mark.parametrize(
    ("version", "hard_types", "messages"), [(180000, (), 1), (150000, (), 2), (180000, ("cube",), 3)]
)
def test_every_argument_the_server_refuses_is_found_softly_or_one_by_one(
    version: int, hard_types: tuple[str, ...], messages: int
) -> None:
    server = Server(hard_types=hard_types)
    found = refused_arguments(server, plan("date", "inet", "cube"), ["'bad'", "NULL", "'bad'"], server_version=version)
    assert [(fault.parameter, fault.message) for fault in found] == [
        ("p0", "is not a valid date"),
        ("p2", "is not a valid cube"),
    ]
    assert len(server.asked) == messages


def test_nothing_is_asked_where_every_argument_is_null() -> None:
    server = Server()
    assert refused_arguments(server, plan("date"), ["NULL"], server_version=180000) == []
    assert server.asked == []


@pytest.mark.parametrize("version", [150000, 180000])
def test_a_connection_that_breaks_over_the_question_is_told(version: int) -> None:
    with pytest.raises(GatewayError, match="gone"):
        refused_arguments(Server(lost=True), plan("date"), ["'x'"], server_version=version)
