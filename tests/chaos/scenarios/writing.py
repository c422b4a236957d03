"""What clients were told of their writes, held against the database (plain writes)."""

import re
import signal
import time
from collections.abc import Iterator
from os import kill

from tests.chaos import servers
from tests.chaos.audit import audit
from tests.chaos.load import Kind
from tests.chaos.proxy import Cut, When
from tests.chaos.results import Figure
from tests.chaos.rig import Stage
from tests.chaos.scenario import note_stalls
from tests.chaos.scenarios.dying import WARM

_WRITE = re.compile(rb"EXECUTE gw_")


def audited(stage: Stage) -> Iterator[Figure]:
    """Lines cut before and behind writes, ended backends, a SIGKILLed worker, a primary that crashes: again and again.

    The proxy stays on the primary's line throughout, so that every write passes where it can be cut.
    """
    cluster = stage.cluster
    primary = cluster.primary
    with (
        stage.serve(cluster, proxied=[primary.name]) as node,
        node.load(rate=stage.rate * 1.5, reads=0.0, lines=64) as load,
    ):
        proxy = node.proxies[primary.name]
        for _ in range(1 if stage.short else 6):
            time.sleep(WARM)
            for when in When:
                for _ in range(3):
                    cut = Cut(_WRITE, when, times=2)
                    proxy.cut(cut)
                    time.sleep(0.3)
                proxy.cut(None)
            proxy.cut_after(200)
            time.sleep(0.3)
            proxy.cut_after(None)
            time.sleep(0.3)
            servers.terminate_backends([primary])
            time.sleep(0.5)
            kill(node.gateway.workers()[0], signal.SIGKILL)
            time.sleep(1.5)
            primary.kill()
            primary.start()
            time.sleep(1.0)
    note_stalls(stage, load)
    found = audit(primary, load.of(Kind.WRITE))
    stage.remark(str(found))
    yield Figure("writes", found.writes, 1000, least=True)
    yield Figure("unknown", found.unknown, 5, least=True)
    yield Figure("unknown that had taken place", found.unknown_and_there, 1, least=True)
    yield Figure("double executions", found.double, 0)
    yield Figure("false committed", found.false_committed, 0)
    yield Figure("false not_executed or rolled_back", found.false_denied, 0)
    yield Figure("rows without an answer", found.unexplained, 0)
    silent = [one for one in load.of(Kind.WRITE) if one.status and one.outcome is None]
    yield Figure("answers without an outcome", len(silent), 0)
