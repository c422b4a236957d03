"""``gateway status``, ``queries`` and ``call``: commands that ask a gateway as any client does."""

import json
import signal
import subprocess
import sys
from collections.abc import Iterator
from uuid import uuid4

import pytest

from gateway.auth import keys, keys_file
from gateway.auth.keys import Key
from gateway.demo import shop
from gateway.demo.cluster import Cluster
from tests.live.gateways import Gateway, environment, serving


@pytest.fixture(scope="module")
def node(cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    with serving(cluster, tmp_path_factory.mktemp("asking"), paths=[shop.QUERIES]) as running:
        yield running


def ask(
    node: Gateway, *words: str, given: str = "", url: str | None = None, key: str = ""
) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, "-m", "gateway", *words]
    where = {"GATEWAY_URL": node.url if url is None else url, "GATEWAY_KEY": key}
    variables = {**environment(), **where, "COLUMNS": "200"}
    return subprocess.run(command, env=variables, input=given, capture_output=True, text=True, check=False)  # noqa: S603 -- our own words


def test_status_shows_servers_groups_and_workers(node: Gateway) -> None:
    shown = ask(node, "status")
    assert shown.returncode == 0, shown.stderr
    for word in ("ok", "primary", "replica1", "replica2", "read", "write", str(node.workers()[0])):
        assert word in shown.stdout
    assert json.loads(ask(node, "status", "--json").stdout).keys() == node.health().keys()


def test_status_of_nobody_fails(node: Gateway) -> None:
    shown = ask(node, "status", url="http://127.0.0.1:1")
    assert (shown.returncode, "cannot be asked" in shown.stderr) == (1, True)


def test_who_has_watched_the_status_for_long_enough_ends_it(node: Gateway) -> None:
    command = [sys.executable, "-u", "-m", "gateway", "status", "--watch"]
    variables = {**environment(), "GATEWAY_URL": node.url, "COLUMNS": "200", "FORCE_COLOR": "1"}
    with subprocess.Popen(command, env=variables, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as watching:  # noqa: S603 -- our own words
        assert watching.stdout is not None
        while b"replica2" not in watching.stdout.readline():
            assert watching.poll() is None
        watching.send_signal(signal.SIGINT)
        try:
            _, said = watching.communicate(timeout=60)
        finally:
            watching.kill()
    assert (watching.returncode, said) == (0, b"")


@pytest.mark.parametrize(
    ("begun", "completed"),
    [
        (["call", "orders_"], ["orders_between", "orders_of_customer"]),
        (["call", "orders_of_customer", "c"], ["customer_id="]),
        (["call", "no_such", "c"], []),
    ],
)
def test_a_shell_completes_names_of_queries_and_parameters(
    begun: list[str], completed: list[str], node: Gateway
) -> None:
    words = {"COMP_WORDS": " ".join(["gateway", *begun]), "COMP_CWORD": str(len(begun))}
    for url, expected in ((node.url, completed), ("http://127.0.0.1:1", [])):
        variables = {**environment(), **words, "_GATEWAY_COMPLETE": "bash_complete", "GATEWAY_URL": url}
        command = [sys.executable, "-c", "from gateway.cli import main; main(prog_name='gateway')"]
        done = subprocess.run(command, env=variables, capture_output=True, text=True, check=False)  # noqa: S603 -- our own words
        assert [line.partition(",")[2] for line in done.stdout.split()] == expected, done.stderr


def test_queries_are_listed(node: Gateway) -> None:
    shown = ask(node, "queries")
    assert shown.returncode == 0, shown.stderr
    assert "orders_of_customer" in shown.stdout
    assert "customer_id [max_rows]" in shown.stdout


@pytest.mark.parametrize(
    ("words", "answer"),
    [
        (["order_total", "order_id=43226"], {"value": 558.47}),
        (["order_total", "order_id:=43226"], {"value": 558.47}),
        (["customers_by_external_id", "external_ids:=[]"], {"rows": [], "row_count": 0}),
        (["customers_by_external_id", f"external_ids={uuid4()}"], {"rows": [], "row_count": 0}),
        (["customers_preferring", 'wanted={"language": "no such"}'], {"rows": [], "row_count": 0}),
        (["find_customers", "newsletter=true", "max_rows=1", "name=nobody of this name"], {"rows": [], "row_count": 0}),
    ],
)
def test_text_becomes_what_a_parameter_takes(words: list[str], answer: object, node: Gateway) -> None:
    called = ask(node, "call", *words)
    assert called.returncode == 0, called.stderr
    assert json.loads(called.stdout) == answer


def test_a_write_says_that_it_committed_and_runs_once_with_its_key(node: Gateway) -> None:
    key = uuid4().hex
    first, again = (ask(node, "call", "create_order", "customer_id=7", "--key", key) for _ in range(2))
    assert json.loads(first.stdout)["outcome"] == "committed", first.stderr
    assert first.stdout == again.stdout


def test_lines_are_one_transaction(node: Gateway) -> None:
    good = '{"customer_id": 7}\n\n{"customer_id": 8}\n'
    called = ask(node, "call", "create_order", "--lines", given=good)
    assert len(json.loads(called.stdout)["results"]) == 2, called.stderr
    refused = ask(node, "call", "create_order", "--lines", given=good + '{"customer_id": -1}\n')
    assert refused.returncode == 1
    assert "conflict" in refused.stderr


@pytest.mark.parametrize(
    ("words", "status", "said"),
    [
        (["order_total", "order=1"], 2, "its parameters: order_id"),
        (["order_total", "order_id"], 2, "KEY=VALUE"),
        (["order_total", "order_id:=x"], 2, "not JSON"),
        (["order_total", "order_id=many"], 1, "order_id: must be an integer"),
        (["nothing"], 1, "unknown_query"),
    ],
)
def test_what_cannot_be_asked_is_told(words: list[str], status: int, said: str, node: Gateway) -> None:
    called = ask(node, "call", *words)
    assert (called.returncode, called.stdout) == (status, "")
    assert said in called.stderr


@pytest.fixture(scope="module")
def guarded(cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Gateway, str]]:
    """A node that asks callers for a key, and one with which everything may be done."""
    folder = tmp_path_factory.mktemp("guarded")
    made = keys.make()
    key = Key(id=made[4:12], sha256=keys.digest_of(made).hex(), name="operator", roles=("admin",))
    (folder / "keys.toml").write_text(keys_file.added("", key))
    (folder / "keys.toml").chmod(0o600)
    settings = {"auth": {"mode": "keys", "keys_file": str(folder / "keys.toml")}}
    with serving(cluster, folder, settings, paths=[shop.QUERIES]) as running:
        yield running, made


def test_what_operators_may_do_they_may_do_from_afar_with_a_key(guarded: tuple[Gateway, str]) -> None:
    node, key = guarded
    done = [
        ask(node, *words, key=key)
        for words in (
            ["drain", "replica1"],
            ["resume", "replica1", "--wait", "20s"],
            ["learn"],
            ["requests"],
            ["explain", "order_total", "order_id=43226"],
            ["reload", "--wait", "50s"],
            ["status"],
        )
    ]
    assert [(each.returncode, each.stderr) for each in done] == [(0, "")] * 7
    assert done[0].stdout.startswith("replica1 is drained")
    assert "served, catalogue" in done[5].stdout
    stranger = ask(node, "reload")
    assert (stranger.returncode, stranger.stdout) == (1, "")
    assert stranger.stderr


def test_a_node_of_this_machine_is_asked_without_a_key(guarded: tuple[Gateway, str]) -> None:
    node, _ = guarded
    for words in (["status", "--json"], ["requests"]):
        done = ask(node, *words, "--pid", str(node.program.pid))
        assert (done.returncode, done.stderr) == (0, "")
    assert json.loads(ask(node, "status", "--json", "-c", str(node.folder / "gateway.toml"), url="").stdout)["workers"]
