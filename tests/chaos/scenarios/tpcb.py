"""TPC-B, the five statements of pgbench as one ``/transaction``, under every fault: the sums agree."""

import random
import time
from collections.abc import Iterator

from gateway.demo.server import Server
from tests.chaos import servers
from tests.chaos.asking import post
from tests.chaos.ledger import Write, compare, runs_on
from tests.chaos.results import Figure
from tests.chaos.rig import Stage
from tests.chaos.scenarios.truth import HURRIED, HURRY, KEYED, figures
from tests.chaos.storm import Storm, ledgers, rage
from tests.chaos.writers import Writers

BRANCHES, TELLERS, ACCOUNTS = 5, 10, 1000
"""As in ``tables.sql``; tellers and accounts of each branch."""
SERIALIZABLE = 0.1
_SUMS = {
    "branches": "SELECT coalesce(sum(bbalance), 0) FROM branches",
    "tellers": "SELECT coalesce(sum(tbalance), 0) FROM tellers",
    "accounts": "SELECT coalesce(sum(abalance), 0) FROM accounts",
    "history": "SELECT coalesce(sum(delta), 0) FROM history",
}
_APART = """
SELECT count(*) FROM branches
 WHERE bbalance <> (SELECT sum(tbalance) FROM tellers WHERE tellers.bid = branches.bid)
    OR bbalance <> (SELECT sum(abalance) FROM accounts WHERE accounts.bid = branches.bid)
    OR bbalance <> (SELECT coalesce(sum(delta), 0) FROM history WHERE history.bid = branches.bid)
"""


def make(tag: int, chance: random.Random) -> Write:
    """One transaction of TPC-B."""
    bid = chance.randrange(BRANCHES)
    tid, aid = bid * TELLERS + chance.randrange(TELLERS) + 1, bid * ACCOUNTS + chance.randrange(ACCOUNTS) + 1
    delta = chance.randint(-5000, 5000)
    whole = {"tid": tid, "bid": bid + 1, "aid": aid, "delta": delta}
    steps = [
        {"query": "add_to_account", "arguments": {"aid": aid, "delta": delta}},
        {"query": "balance", "arguments": {"aid": aid}},
        {"query": "add_to_teller", "arguments": {"tid": tid, "delta": delta}},
        {"query": "add_to_branch", "arguments": {"bid": bid + 1, "delta": delta}},
        {"query": "note_in_history", "arguments": {"id": tag, **whole}},
    ]
    isolation = "serializable" if chance.random() < SERIALIZABLE else "read committed"
    key = f"key-{tag}" if chance.random() < KEYED else None
    headers = {"idempotency_key": key} if key else {}
    if chance.random() < HURRIED:
        headers["prefer"] = f"wait={chance.uniform(*HURRY):.2f}"
    request = post("/transaction", {"steps": steps, "isolation": isolation}, **headers)
    return Write(tag, isolation, request, 1, key, delta)


def sums_agree(stage: Stage) -> Iterator[Figure]:
    """Accounts, tellers, branches and history, while everything breaks."""
    rounds, promotions, least = (1, 0, 250) if stage.short else (7, 2, 5_000)
    cluster = stage.cluster
    with ledgers(stage, cluster) as node:
        storm = Storm(cluster, node)
        if promotions:
            storm.replicate_synchronously()
        with Writers(node, make, rate=stage.rate / 2) as writers:
            rage(storm, rounds, promotions, 0.3 if stage.short else 0.6)
            while len(writers.writes) < least:
                time.sleep(0.1)
    runs = runs_on(storm.primary, "history", "tid")
    sums, apart = _sums(storm.primary), _count(storm.primary, _APART)
    findings = compare(writers.writes, runs, storm.left_behind("history", "tid"), servers.timeline(storm.primary))
    if promotions:
        stage.spoil()
    stage.remark(f"sums: {sums}")
    amounts = sum(write.amount for write in writers.writes if write.tag in runs)
    yield from figures(stage, findings, storm)
    yield Figure("transactions", findings.writes, least, least=True)
    yield Figure("rows of the history", len(runs), least // 4, least=True)
    yield Figure("sums that differ", len({*sums.values(), amounts}) - 1, 0)
    yield Figure("branches whose sums differ", apart, 0)
    told = sum(write.committed for write in writers.writes)
    in_doubt = sum(write.tag in runs for write in writers.writes if not write.committed and not write.denied)
    yield Figure("history rows beyond what was committed or never known", len(runs) - told - in_doubt, 0)
    yield Figure("missing history rows", told + in_doubt - len(runs), 0)


def _sums(server: Server) -> dict[str, int]:
    return {name: _count(server, sql) for name, sql in _SUMS.items()}


def _count(server: Server, sql: str) -> int:
    ((value,),) = servers.ask(server, sql)
    return int(str(value))
