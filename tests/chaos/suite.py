"""All scenarios, by subject."""

from collections.abc import Collection

from tests.chaos.scenario import Scenario
from tests.chaos.scenarios import (
    connecting,
    deadlines,
    dying,
    failover,
    health,
    joining,
    lagging,
    migrating,
    reloading,
    returning,
    sharing,
    tpcb,
    truth,
    writing,
)

SCENARIOS = (
    Scenario("killed", "replica-killed", "replica SIGKILLed under load", dying.replica_killed),
    Scenario("killed", "replica-killed-idle", "replica SIGKILLed without traffic", dying.replica_killed_idle),
    Scenario("killed", "replica-killed-with-worker", "replica and a worker at once", dying.replica_killed_with_worker),
    Scenario("frozen", "replica-frozen", "replica frozen (SIGSTOP) under load", dying.replica_frozen),
    Scenario(
        "frozen", "replica-black-holed", "replica's network drops everything", dying.replica_black_holed, in_short=False
    ),
    Scenario("sessions", "backends-terminated", "every pooled backend terminated at once", dying.backends_terminated),
    Scenario("sessions", "joined-reads", "callers answered together while servers end", joining.joined),
    Scenario("down", "replicas-down", "all replicas down", dying.replicas_down),
    Scenario("down", "everything-down", "everything down, then the primary comes back", dying.everything_down),
    Scenario("down", "only-server-restarted", "the only server restarted", dying.only_server_restarted, in_short=False),
    Scenario("down", "down-at-start", "server down at start", dying.down_at_start),
    Scenario(
        "balance", "share-after-loss", "one of three replicas lost: shares", sharing.share_after_loss, in_short=False
    ),
    Scenario("balance", "slow-replica", "a replica made 500 ms slow", sharing.slow_replica, in_short=False),
    Scenario("lag", "lagging", "replay stands still", lagging.lagging),
    Scenario("lag", "idle", "an idle primary", lagging.idle, in_short=False),
    Scenario("lag", "idle-for-long", "an idle primary for ten minutes", lagging.idle_for_long, in_suite=False),
    Scenario("lag", "receiver-dead", "WAL receiver dead", lagging.receiver_dead),
    Scenario("lag", "read-your-writes", "consistency tokens, one replica 150 ms late", lagging.read_your_writes),
    Scenario("blame", "recovery-conflict", "recovery conflict", sharing.recovery_conflict),
    Scenario("blame", "statement-timeout", "statement time-out", sharing.statement_timeout),
    Scenario("retries", "retries-bounded", "every connection breaks under every query", sharing.retries_bounded),
    Scenario("outcome", "writes-audited", "plain writes, everything breaks", writing.audited, in_short=False),
    Scenario("failover", "primary-lost", "primary killed, replica promoted", failover.primary_lost),
    Scenario("failover", "primary-left-alive", "replica promoted, old primary lives", failover.primary_left_alive),
    Scenario("failover", "primary-restarted", "primary restarted in place", failover.primary_restarted, in_short=False),
    Scenario("failover", "primary-crashed", "primary killed and started again", failover.primary_crashed),
    Scenario("keys", "keys-repeated", "ten repeats of a key at once", truth.repeats),
    Scenario("outcome", "commit-refused", "COMMITs that end in ROLLBACK", truth.commit_refused),
    Scenario("outcome", "sums-agree", "TPC-B, everything breaks", tpcb.sums_agree, in_short=False),
    Scenario("outcome", "every-kind-audited", "writes of every kind, everything breaks", truth.every_kind),
    Scenario("deadline", "deadlines", "deadlines of 0.8 s under every fault", deadlines.deadlines, in_short=False),
    Scenario("deadline", "slow-names", "deadlines of 0.8 s under slow DNS", deadlines.slow_names, in_short=False),
    Scenario("connections", "slots-exhausted", "max_connections exhausted", connecting.slots_exhausted),
    Scenario("connections", "cap", "connections under faults and reloads", connecting.cap),
    Scenario("changes", "name-moved", "DNS change under load", connecting.name_moved),
    Scenario("changes", "password-changed", "password change under load", connecting.password_changed),
    Scenario("changes", "migrated", "migrations under load", migrating.migrated),
    Scenario("health", "health-asked-often", "/health asked 1000 times a second", health.asked_often, in_short=False),
    Scenario("rotation", "flapping", "flapping replica", returning.flapping, in_short=False),
    Scenario("rotation", "starting-up", "replica that is starting up (57P03)", returning.starting_up, in_short=False),
    Scenario("life", "reloaded", "reloads that change everything", reloading.reloaded, in_short=False),
    Scenario("life", "stopped", "SIGTERM behind a front that learns late", reloading.stopped, in_short=False),
    Scenario("drain", "drained", "drain and resume under load", returning.drained),
)


def chosen(names: Collection[str], *, short: bool) -> list[Scenario]:
    """Those with these names or subjects; without any, all but the very long (and in the short form, some more)."""
    if names:
        return [one for one in SCENARIOS if one.name in names or (one.in_suite and one.subject in names)]
    return [one for one in SCENARIOS if one.in_suite and (one.in_short or not short)]
