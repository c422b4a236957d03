"""The short form of ``make fuzz``: some thousand inputs for each place that reads input, the same every time.

What is sent to a running gateway is in ``tests/live/test_attacks.py``.
"""

import pytest

from tests.fuzz.fuzzing import fuzz
from tests.fuzz.targets import TARGETS

SEED = 15
COUNT = 4_000


@pytest.mark.parametrize("name", TARGETS)
def test_whatever_comes_is_answered_or_refused_in_known_ways(name: str) -> None:
    outcomes, findings = fuzz(name, TARGETS[name], seed=SEED, count=COUNT)
    assert findings == []
    assert len(outcomes) > 1, "nothing was accepted, or nothing was refused"
