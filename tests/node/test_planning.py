"""What ``gateway plan`` computes."""

from gateway.node.planning import plan
from gateway.postgres.capacity import Capacity
from gateway.settings import EndpointSettings, GroupSettings, ServerSettings, Settings

SERVER = EndpointSettings(dsn="host=127.0.0.1")
SETTINGS = Settings(
    server=ServerSettings(workers=4, shutdown_delay=10.0),
    endpoints={"primary": SERVER, "replica1": SERVER},
    groups={
        "read": GroupSettings(endpoints=("replica1",), size=18),
        "write": GroupSettings(access="write", endpoints=("primary", "replica1"), size=8),
    },
)


def capacity(most: int = 100, *, others: int = 0, limit: int | None = None) -> Capacity:
    return Capacity(max_connections=most, reserved=3, others=others, limit=limit)


def test_sessions_are_the_groups_that_name_a_server_and_a_probe_for_each_node() -> None:
    servers = plan(SETTINGS, {}, nodes=20, surge=5, grace=30).servers
    assert [(each.per_node, each.all_nodes, each.at_most) for each in servers.values()] == [
        (9, 180, 225),
        (27, 540, 675),
    ]
    assert all(each.fits and each.nodes_that_fit is None for each in servers.values())


def test_each_worker_is_entitled_to_its_share_of_a_group() -> None:
    groups = plan(SETTINGS, {}, nodes=2, surge=0, grace=30).groups
    assert (groups["read"].per_worker, groups["read"].all_nodes) == (4.5, 36)


def test_nodes_fit_where_a_roll_out_fits_beside_what_others_have() -> None:
    found = plan(SETTINGS, {"replica1": capacity(100, others=16)}, nodes=2, surge=1, grace=30)
    assert found.servers["replica1"].nodes_that_fit == 2
    assert found.servers["replica1"].fits
    assert (
        not plan(SETTINGS, {"replica1": capacity(100, others=17)}, nodes=2, surge=1, grace=30).servers["replica1"].fits
    )


def test_a_limit_of_the_role_says_how_many_nodes_a_server_has_room_for() -> None:
    capacities = {"primary": capacity(1000), "replica1": capacity(1000, limit=60)}
    servers = plan(SETTINGS, capacities, nodes=1, surge=0, grace=30).servers
    assert servers["replica1"].nodes_that_fit == 2
    assert (servers["primary"].nodes_that_fit or 0) > 2


def test_the_time_to_end_in_holds_the_delay_and_the_requests_in_progress() -> None:
    assert plan(SETTINGS, {}, nodes=1, surge=0, grace=30).grace_seconds == 45


def test_a_limit_of_the_role_or_the_database_counts_where_it_is_smaller() -> None:
    assert [capacity(limit=limit).free for limit in (None, 50, 500)] == [97, 50, 97]
    assert capacity(10, others=20).free == 0
