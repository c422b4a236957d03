"""What is reported of endpoints."""

import pytest

from gateway.node.announcing import Announced
from gateway.rotation.endpoint import Reason, Role
from gateway.rotation.moves import Connected, Drain, Event, Lost, PreparedLost, Probed, ProbeFailed, Resolved, Resume
from gateway.rotation.rotation import LocalViews, Rotation


def good(role: Role = Role.REPLICA, lag_ms: float = 0) -> Probed:
    return Probed(role=role, ping_ms=0.3, lag_ms=lag_ms)


OUT = ProbeFailed(Reason.REFUSED, "nobody there")
FAR: list[Event] = [good(), good(lag_ms=20_000), good(lag_ms=20_000), good(lag_ms=4_000)]
FLAPPING: list[Event] = [good(), *(event for _ in range(4) for event in (OUT, good()))]
TOLD: list[tuple[list[Event], list[str]]] = [
    ([good(), good(), Resolved(("10.0.0.1",))], ["in the rotation as replica"]),
    ([OUT, OUT], ["out of the rotation, refused: nobody there"]),
    ([good(), good(Role.PRIMARY)], ["in the rotation as replica", "in the rotation as primary"]),
    ([good(), Connected(Role.PRIMARY)], ["in the rotation as replica", "in the rotation as primary"]),
    ([good(), Lost("cut", opened_at=1e12)], ["in the rotation as replica", "suspect, lost: cut"]),
    (
        [OUT, ProbeFailed(Reason.STARTING_UP, "soon"), good()],
        [
            "out of the rotation, refused: nobody there",
            "out of the rotation, starting_up: soon",
            "in the rotation as replica",
        ],
    ),
    (
        FAR,
        [
            "in the rotation as replica",
            "too far behind for group read: 20000 ms",
            "fresh enough for read",
        ],
    ),
    (
        [good(), PreparedLost(), PreparedLost(), good()],
        [
            "in the rotation as replica",
            "a pooler in between loses prepared statements; queries run without them from now on, which costs more for"
            " each. Set prepare = false for it, or connect without that pooler",
        ],
    ),
    ([good(), Drain(), Drain(), Resume()], ["in the rotation as replica"]),  # whoever drains reports it
    (
        FLAPPING,
        ["in the rotation as replica"]
        + ["out of the rotation, refused: nobody there", "in the rotation as replica"] * 3
        + [
            "out of the rotation, refused: nobody there",
            "held back as replica: came back more than 3 times within 30 s",
        ],
    ),
]


@pytest.mark.parametrize(("events", "told"), TOLD)
def test_every_change_is_reported_once(events: list[Event], told: list[str]) -> None:
    reported: list[object] = []
    views = Announced(LocalViews(["r"]), reported.append)
    rotation = Rotation(views=views, max_lags={"read": 10.0})
    for event in events:
        rotation.apply("r", event)
    assert [str(event) for event in reported] == [f"endpoint r: {line}" for line in told]


def test_what_others_changed_is_theirs_to_report() -> None:
    reported: list[object] = []
    shared = LocalViews(["r"])
    mine = Rotation(views=Announced(shared, reported.append))
    Rotation(views=shared).apply("r", good())
    assert mine.poll()
    assert not reported
