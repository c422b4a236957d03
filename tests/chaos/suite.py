"""All scenarios, in the order of the promises."""

from tests.chaos.scenario import Scenario
from tests.chaos.scenarios import dying

SCENARIOS = (
    Scenario("1", "replica-killed", "replica SIGKILLed under load", dying.replica_killed),
    Scenario("1", "replica-killed-idle", "replica SIGKILLed without traffic", dying.replica_killed_idle),
    Scenario("2", "replica-frozen", "replica frozen (SIGSTOP) under load", dying.replica_frozen),
    Scenario("2", "replica-black-holed", "replica's network drops everything", dying.replica_black_holed),
    Scenario("3", "backends-terminated", "every pooled backend terminated at once", dying.backends_terminated),
    Scenario("4", "replicas-down", "all replicas down", dying.replicas_down),
    Scenario("4", "everything-down", "everything down", dying.everything_down),
    Scenario("4", "only-server-restarted", "the only server restarted", dying.only_server_restarted),
    Scenario("4", "down-at-start", "server down at start", dying.down_at_start),
)
