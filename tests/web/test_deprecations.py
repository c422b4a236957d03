"""Whoever calls a deprecated query is told, and counted."""

from typing import Any

import falcon
import falcon.testing
import pytest

from gateway.catalogue.query import Catalogue, Deprecation
from gateway.execution.call import Caller
from gateway.metrics import DEPRECATED, Metrics
from gateway.web.deprecations import Deprecations, label_of
from tests.execution.samples import query

OLD = query("old", deprecated=Deprecation("use new", since="2026-01-15", sunset="2027-01-31"))
VAGUE = query("vague", deprecated=Deprecation("use new"))
NEW = query("new")


def request(caller: str = "") -> Any:
    made: Any = falcon.testing.create_req()
    made.context.caller = Caller(name=caller)
    return made


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("old", {"deprecation": "@1768435200", "sunset": "Sun, 31 Jan 2027 00:00:00 GMT"}),
        ("vague", {"deprecation": "@0"}),
        ("new", {}),
    ],
)
def test_the_answer_says_since_when_and_until_when(name: str, told: dict[str, str]) -> None:
    deprecations = Deprecations(Catalogue({each.name: each for each in (OLD, VAGUE, NEW)}, "hash"), Metrics())
    response = falcon.Response()
    deprecations.note(name, request(), response)
    assert response.headers == told


def test_calls_are_counted_by_caller() -> None:
    metrics = Metrics()
    deprecations = Deprecations(Catalogue({"old": OLD, "new": NEW}, "hash"), metrics)
    for name, caller in (("old", "key:shop"), ("old", "key:shop"), ("old", ""), ("new", "key:shop")):
        deprecations.note(name, request(caller), falcon.Response())
    assert metrics.read().counts == {DEPRECATED.name: [(("old", "shop"), [2.0]), (("old", "anonymous"), [1.0])]}


@pytest.mark.parametrize(
    ("caller", "label"),
    [("", "anonymous"), ("key:shop", "shop"), ("cert:spiffe://a/b", "spiffe://a/b"), ("jwt:user-17", "jwt")],
)
def test_who_has_a_token_has_no_label_of_his_own(caller: str, label: str) -> None:
    assert label_of(Caller(name=caller)) == label


def test_where_nothing_is_deprecated_nothing_is_looked_up() -> None:
    assert not Deprecations(Catalogue({"new": NEW}, "hash"), Metrics())
