"""Queries that no server has seen and calls of them, for tests that send nothing."""

from collections.abc import Sequence
from time import monotonic
from typing import Any

from gateway.catalogue.query import Access, Kind, Parameter, Query, Statement, Text, Verb
from gateway.catalogue.types import Family, Form, Signature, Type
from gateway.execution.call import SingleCall, TransactionCall
from gateway.postgres.statement import Plan
from gateway.postgres.work import Step, Work

INTEGER = Type(name="integer", sql="pg_catalog.int4", family=Family.INTEGER, size=4)
SIGNATURE = Signature(parameters=(INTEGER,), columns=(), form=Form.PLAIN)


def query(name: str = "orders", *, write: bool = False, **more: Any) -> Query:
    """``SELECT 1`` by this name; it takes an integer ``id``."""
    return Query(
        name=name,
        kind=Kind.EXEC,
        access=Access.WRITE if write else Access.READ,
        statement=Statement(verb=Verb.SELECT, bare=Text(("SELECT ", ""), (0,))),
        parameters=(Parameter("id"),),
        timeout=2.0,
        group="write" if write else "read",
        **more,
    )


def single(asked: Query, literals: Sequence[str] = (), **more: Any) -> SingleCall:
    """One call of it."""
    plan = Plan.of(asked, SIGNATURE)
    return SingleCall(group=asked.group, deadline=monotonic() + 5, query=asked, plan=plan, literals=literals, **more)


def transaction(*asked: Query) -> TransactionCall:
    """One call of all of them in a transaction."""
    steps = [Step(Plan.of(query, SIGNATURE), lambda _: ()) for query in asked]
    work = Work(steps, lambda _: b"{}")
    return TransactionCall(group=asked[0].group, deadline=monotonic() + 5, queries=asked, work=work)
