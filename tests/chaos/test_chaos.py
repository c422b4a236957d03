"""Every scenario in its short form; `python -m tests.chaos --short` is the same with a table."""

from collections.abc import Iterator

import pytest

from tests.chaos.report import explain, table
from tests.chaos.results import Row
from tests.chaos.rig import Stage
from tests.chaos.scenario import Scenario
from tests.chaos.suite import chosen


@pytest.fixture(scope="module")
def stage() -> Iterator[Stage]:
    """Servers for all of them."""
    stage = Stage(short=True)
    yield stage
    stage.close()


@pytest.mark.chaos
@pytest.mark.parametrize("scenario", chosen((), short=True), ids=lambda one: str(one.name))
def test_every_limit_is_kept(stage: Stage, scenario: Scenario) -> None:
    row = Row(scenario.subject, scenario.name, scenario.what)
    stage.remarks.clear()
    row.add(scenario.run(stage), stage.remarks)
    assert row.kept, f"\n{table([row])}\n{explain([row])}"
