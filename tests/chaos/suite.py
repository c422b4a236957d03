"""All scenarios, in the order of the promises."""

from collections.abc import Collection

from tests.chaos.scenario import Scenario
from tests.chaos.scenarios import (
    connecting,
    deadlines,
    dying,
    failover,
    health,
    lagging,
    returning,
    sharing,
    tpcb,
    truth,
    writing,
)

SCENARIOS = (
    Scenario("1", "replica-killed", "replica SIGKILLed under load", dying.replica_killed),
    Scenario("1", "replica-killed-idle", "replica SIGKILLed without traffic", dying.replica_killed_idle),
    Scenario("1", "replica-killed-with-worker", "replica and a worker at once", dying.replica_killed_with_worker),
    Scenario("2", "replica-frozen", "replica frozen (SIGSTOP) under load", dying.replica_frozen),
    Scenario(
        "2", "replica-black-holed", "replica's network drops everything", dying.replica_black_holed, in_short=False
    ),
    Scenario("3", "backends-terminated", "every pooled backend terminated at once", dying.backends_terminated),
    Scenario("4", "replicas-down", "all replicas down", dying.replicas_down),
    Scenario("4", "everything-down", "everything down, then the primary comes back", dying.everything_down),
    Scenario("4", "only-server-restarted", "the only server restarted", dying.only_server_restarted, in_short=False),
    Scenario("4", "down-at-start", "server down at start", dying.down_at_start),
    Scenario("5", "share-after-loss", "one of three replicas lost: shares", sharing.share_after_loss, in_short=False),
    Scenario("5", "slow-replica", "a replica made 500 ms slow", sharing.slow_replica, in_short=False),
    Scenario("6", "lagging", "replay stands still", lagging.lagging),
    Scenario("6", "idle", "an idle primary", lagging.idle, in_short=False),
    Scenario("6", "idle-for-long", "an idle primary for ten minutes", lagging.idle_for_long, in_suite=False),
    Scenario("6", "receiver-dead", "WAL receiver dead", lagging.receiver_dead),
    Scenario("6", "read-your-writes", "consistency tokens, one replica 150 ms late", lagging.read_your_writes),
    Scenario("7", "recovery-conflict", "recovery conflict", sharing.recovery_conflict),
    Scenario("7", "statement-timeout", "statement time-out", sharing.statement_timeout),
    Scenario("8", "retries-bounded", "every connection breaks under every query", sharing.retries_bounded),
    Scenario("9", "writes-audited", "plain writes, everything breaks", writing.audited, in_short=False),
    Scenario("10", "primary-lost", "primary killed, replica promoted", failover.primary_lost),
    Scenario("10", "primary-left-alive", "replica promoted, old primary lives", failover.primary_left_alive),
    Scenario("10", "primary-restarted", "primary restarted in place", failover.primary_restarted, in_short=False),
    Scenario("10", "primary-crashed", "primary killed and started again", failover.primary_crashed),
    Scenario("11", "keys-repeated", "ten repeats of a key at once", truth.repeats),
    Scenario("12", "commit-refused", "COMMITs that end in ROLLBACK", truth.commit_refused),
    Scenario("tpcb", "sums-agree", "TPC-B, everything breaks", tpcb.sums_agree, in_short=False),
    Scenario("9", "every-kind-audited", "writes of every kind, everything breaks", truth.every_kind),
    Scenario("13", "deadlines", "deadlines of 0.8 s under every fault", deadlines.deadlines, in_short=False),
    Scenario("13", "slow-names", "deadlines of 0.8 s under slow DNS", deadlines.slow_names, in_short=False),
    Scenario("16", "slots-exhausted", "max_connections exhausted", connecting.slots_exhausted),
    Scenario("16", "cap", "connections under faults and reloads", connecting.cap),
    Scenario("19", "name-moved", "DNS change under load", connecting.name_moved),
    Scenario("19", "password-changed", "password change under load", connecting.password_changed),
    Scenario("27", "health-asked-often", "/health asked 1000 times a second", health.asked_often, in_short=False),
    Scenario("map", "flapping", "flapping replica", returning.flapping, in_short=False),
    Scenario("map", "starting-up", "replica that is starting up (57P03)", returning.starting_up, in_short=False),
    Scenario("drain", "drained", "drain and resume under load", returning.drained),
)


def chosen(names: Collection[str], *, short: bool) -> list[Scenario]:
    """Those with these names or promises; without any, all but the very long (and in the short form, some more)."""
    if names:
        return [one for one in SCENARIOS if one.name in names or (one.in_suite and one.promise in names)]
    return [one for one in SCENARIOS if one.in_suite and (one.in_short or not short)]
