import pytest

from gateway.rotation.endpoint import Reason, Role
from gateway.rotation.moves import Drain, PreparedLost, Probed, ProbeFailed, Resume
from gateway.web.health import Membership
from tests.web.rigs import HealthRig


@pytest.fixture
def node() -> HealthRig:
    node = HealthRig()
    node.probe_all()
    return node


def test_who_may_serve_any_group_is_in_the_rotation(node: HealthRig) -> None:
    assert [node.membership(name) for name in node.rig.servers] == [Membership(True, None)] * 3
    assert node.client.simulate_get("/health").json["status"] == "ok"


def test_who_was_never_looked_at_is_not() -> None:
    assert HealthRig().membership("replica1") == Membership(False, Reason.UNKNOWN)


@pytest.mark.parametrize("reason", [Reason.REFUSED, Reason.AUTH, Reason.TLS, Reason.STARTING_UP])
def test_the_reason_is_what_the_probe_found(reason: Reason, node: HealthRig) -> None:
    node.rotation.apply("replica1", ProbeFailed(reason, "why"))
    assert node.membership("replica1") == Membership(False, reason)
    told = node.client.simulate_get("/health").json
    assert (told["status"], told["endpoints"]["replica1"]["message"]) == ("degraded", "why")


def test_a_lagging_replica_is_out_for_its_lag_and_not_for_its_role(node: HealthRig) -> None:
    node.probe("replica1", lag=11)
    assert node.membership("replica1") == Membership(False, Reason.LAGGING)


def test_a_drained_one_is_out_until_it_is_resumed(node: HealthRig) -> None:
    node.rotation.apply("replica2", Drain())
    assert node.membership("replica2") == Membership(False, Reason.DRAINED)
    assert node.client.simulate_get("/health").json["groups"]["read"]["rotation"] == ["replica1"]
    node.rotation.apply("replica2", Resume())
    assert node.membership("replica2") == Membership(True, None)


def test_an_old_primary_is_out_for_its_timeline(node: HealthRig) -> None:
    node.rig.servers["replica1"].role = node.rig.servers["primary"].role
    node.probe("replica1", timeline=2)
    assert node.membership("primary") == Membership(False, Reason.OLD_TIMELINE)


def test_one_that_comes_and_goes_is_told_as_out_with_the_reason_and_why(node: HealthRig) -> None:
    for _ in range(4):
        node.rotation.apply("replica1", ProbeFailed(Reason.REFUSED, "refused"))
        node.probe("replica1")
    assert node.rotation.view("replica1").held
    endpoint = node.client.simulate_get("/health").json["endpoints"]["replica1"]
    assert (endpoint["in_rotation"], endpoint["message"]) == (False, "came back more than 3 times within 30 s")
    assert endpoint["reason"] in {"refused", "unknown"}


def test_without_an_endpoint_for_a_group_the_node_is_down(node: HealthRig) -> None:
    node.rotation.apply("primary", ProbeFailed(Reason.REFUSED, "refused"))
    told = node.client.simulate_get("/health").json
    assert (told["status"], told["groups"]["write"]["status"], told["groups"]["read"]["status"]) == (
        "down",
        "down",
        "ready",
    )


def test_a_server_that_took_no_connection_from_the_start_has_a_reason_and_its_own_words() -> None:
    node = HealthRig()
    node.rotation.apply("replica1", ProbeFailed(None, "sorry, too many clients already"))
    endpoint = node.client.simulate_get("/health").json["endpoints"]["replica1"]
    assert (endpoint["in_rotation"], endpoint["reason"]) == (False, "refused")
    assert endpoint["message"] == "sorry, too many clients already"
    assert (endpoint["ping"]["ok"], endpoint["wal"]) == (False, None)


def test_a_pooler_that_loses_prepared_statements_is_noted(node: HealthRig) -> None:
    node.rotation.apply("replica1", PreparedLost())
    notes = {name: each["note"] for name, each in node.client.simulate_get("/health").json["endpoints"].items()}
    assert notes.pop("replica1").startswith("a pooler in between loses prepared statements")
    assert notes == {"primary": None, "replica2": None}


def test_whether_a_server_tells_its_wal_position_is_shown(node: HealthRig) -> None:
    node.rotation.apply(
        "replica1", Probed(role=Role.REPLICA, ping_ms=0.3, lag_ms=0.0, timeline=1, streaming=True, position=7)
    )
    told = node.client.simulate_get("/health").json["endpoints"]
    assert {name: endpoint["wal"] for name, endpoint in told.items()} == {
        "primary": "unavailable",
        "replica1": "ok",
        "replica2": "unavailable",
    }
