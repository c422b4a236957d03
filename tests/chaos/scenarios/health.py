"""How quickly a node tells what it knows, however often it is asked."""

import time
from collections.abc import Iterator

from tests.chaos.asking import get
from tests.chaos.load import Kind, quantile
from tests.chaos.results import Figure
from tests.chaos.rig import Stage
from tests.chaos.scenario import failures, milliseconds, note_stalls
from tests.chaos.scenarios.dying import WARM

RATE = 1000.0


def asked_often(stage: Stage) -> Iterator[Figure]:
    """``/health`` of four endpoints and two workers, 1000 times a second."""
    request = get("/health")
    with stage.serve(stage.cluster) as node, node.load(rate=RATE, reads=1.0, mix=lambda *_: request, lines=16) as load:
        time.sleep(WARM)
        began = time.monotonic()
        time.sleep(3.0 if stage.short else 10.0)
        ended = time.monotonic()
    note_stalls(stage, load)
    yield failures(stage, load, Kind.READ, "answers that are not 200")
    asked = load.sent_between(began, ended)
    yield milliseconds("99 % of the answers within", quantile(asked, 0.99), 5)
