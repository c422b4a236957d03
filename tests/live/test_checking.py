"""``gateway check`` and ``gateway test`` on real servers: plans, skew, what breaks callers, cases that roll back."""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
from click.testing import CliRunner, Result

from gateway.cli import main
from gateway.demo import shop
from gateway.demo.cluster import Cluster
from tests.live.databases import database
from tests.live.gateways import toml

QUERIES = """
-- name: by_note(note)
SELECT id FROM big WHERE note = :note;
-- name: all_of_it
SELECT id FROM big;
-- name: first_ones
SELECT id FROM big LIMIT 3;
-- name: by_id(id)^
SELECT id, note FROM big WHERE id = :id;
-- name: add(id, note)<!
INSERT INTO big (id, note) VALUES (:id, :note) RETURNING id;
"""
CASES = """
[[test]]
query = "add"
arguments = {id = 1000001, note = "new"}
expect = {row = {id = 1000001}, outcome = "committed"}

[[test]]
name = "nothing of it stays"
query = "by_id"
arguments = {id = 1000001}
expect = '{"row": null}'

[[test]]
query = "add"
arguments = {id = 1, note = "there"}
code = "conflict"

[[test]]
query = "by_id"
arguments = {id = "x"}
code = "invalid_arguments"
"""


@pytest.fixture(scope="module")
def dsns(cluster: Cluster) -> Iterator[dict[str, str]]:
    """Two databases, of which the second has another type of the same column."""
    with database(cluster.primary, "checked") as one, database(cluster.primary, "checked_too") as other:
        for dsn, type_ in ((one, "text"), (other, "varchar(20)")):
            name = dsn.partition("dbname=")[2].split()[0]
            cluster.primary.sql(
                f"CREATE TABLE big (id int8 PRIMARY KEY, note {type_}); INSERT INTO big SELECT n, n FROM"
                f" generate_series(1, 20000) AS n; ANALYZE big; GRANT ALL ON big TO {shop.ROLE}",
                name,
            )
        yield {"one": one, "other": other}


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, dsns: Mapping[str, str]) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "queries").mkdir()
    (tmp_path / "queries" / "q.sql").write_text(QUERIES)
    (tmp_path / "queries" / "q.test.toml").write_text(CASES)
    (tmp_path / "gateway.toml").write_text(toml({"endpoints.one": {"dsn": dsns["one"]}}))
    return tmp_path


def gateway(*arguments: str) -> Result:
    return CliRunner().invoke(main, arguments)


def found(*arguments: str) -> list[dict[str, Any]]:
    findings: list[dict[str, Any]] = json.loads(gateway("check", "--format", "json", *arguments).stdout)["findings"]
    return findings


@pytest.mark.usefixtures("project")
def test_large_tables_that_are_read_as_a_whole_are_told() -> None:
    scans = {
        each["rule"]: each["message"] for each in found() if each["level"] == "warning" and "reads" in each["message"]
    }
    assert scans == {
        "filter-without-index": "by_note: it reads all of big (20,000 rows): no index serves (big.note = $1)",
        "sequential-scan": "all_of_it: it reads all of big (20,000 rows)",
    }
    assert gateway("check").exit_code == 0


def test_a_change_that_breaks_callers_is_a_fault_with_its_place(project: Path) -> None:
    assert gateway("check", "--write-lock").exit_code == 0
    assert gateway("check").exit_code == 0
    file = project / "queries" / "q.sql"
    file.write_text(QUERIES.replace("SELECT id, note FROM big", "SELECT id FROM big") + "-- name: more$\nSELECT 1;\n")
    result = gateway("check")
    assert result.exit_code == 1
    assert "queries/q.sql:8: by_id: breaks callers: column note is gone\n" in result.stderr
    assert "more: changed: it is new" in result.stderr
    assert [each["rule"] for each in found() if "change" in each["rule"]] == ["breaking-change", "compatible-change"]
    assert gateway("check", "--write-lock").exit_code == 0
    assert gateway("check").exit_code == 0


@pytest.mark.usefixtures("project")
def test_code_scanning_is_given_rules_results_and_places() -> None:
    (run,) = json.loads(gateway("check", "--format", "sarif").stdout)["runs"]
    rules = {rule["id"] for rule in run["tool"]["driver"]["rules"]}
    assert {result["ruleId"] for result in run["results"]} == rules
    by_note = next(result for result in run["results"] if result["ruleId"] == "filter-without-index")
    location = by_note["locations"][0]["physicalLocation"]
    assert (by_note["level"], location["region"]) == ("warning", {"startLine": 2})
    assert location["artifactLocation"]["uri"].endswith("queries/q.sql")


def test_servers_that_do_not_agree_on_a_querys_types_are_a_fault(project: Path, dsns: Mapping[str, str]) -> None:
    (project / "gateway.toml").write_text(toml({f"endpoints.{name}": {"dsn": dsn} for name, dsn in dsns.items()}))
    skew = [each["message"] for each in found() if each["rule"] == "skew"]
    assert any(
        message.startswith(
            "by_id: endpoints.other differs from the servers before it: column note is character varying"
        )
        for message in skew
    ), skew
    assert gateway("check").exit_code == 1


def test_faults_of_files_are_findings_too(project: Path) -> None:
    (project / "queries" / "bad.sql").write_text("-- name: bad$\nSELEKT 1;\n")
    (fault,) = found("--offline")
    assert (fault["rule"], fault["level"], fault["line"]) == ("faulty", "error", 2)


def test_cases_run_as_calls_do_and_leave_nothing(project: Path, cluster: Cluster) -> None:
    report = project / "report.xml"
    result = gateway("test", "--junit", str(report))
    assert (result.exit_code, result.stdout.splitlines()[-1]) == (0, "4 tests, 0 failed"), result.stdout
    assert cluster.primary.sql("SELECT count(*) FROM big WHERE id > 1000000", "checked").strip() == "0"
    suite = ElementTree.parse(report).getroot()  # noqa: S314 -- ours
    assert (suite.get("tests"), suite.get("failures")) == ("4", "0")


def test_a_case_that_is_answered_otherwise_fails_and_says_how(project: Path) -> None:
    case = '[[test]]\nquery = "by_id"\narguments = {id = 1}\nexpect = {row = {note = "2"}}\n'
    (project / "queries" / "q.test.toml").write_text(case)
    result = gateway("test")
    assert result.exit_code == 1
    assert 'q.test.toml: /row/note is "1" instead of "2"' in result.stdout


def test_the_sample_shops_cases_pass(cluster: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    settings: dict[str, dict[str, Any]] = {
        "catalogue": {"paths": [str(shop.QUERIES)]},
        "endpoints.primary": {"dsn": shop.dsn(cluster.primary)},
    }
    (tmp_path / "gateway.toml").write_text(toml(settings))
    result = gateway("test")
    assert result.exit_code == 0, result.output
    assert result.stdout.splitlines()[-1] == "6 tests, 0 failed"
