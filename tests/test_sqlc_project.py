"""A project of sqlc's, as it stands: every way of writing queries that sqlc has, over one schema.

``names.json`` is what sqlc 1.31 makes of it: the names of parameters in its ``json`` output, by number, with the
suffixes of the code that it writes for Go; empty where it finds none. sqlc itself accepts the whole project.
"""

import json
import shutil
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from gateway.catalogue.compiling import compile_project
from gateway.catalogue.query import Catalogue
from gateway.cli.main import main
from gateway.settings import load_settings

PROJECT = Path(__file__).parent / "sqlc_project"


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    shutil.copytree(PROJECT, tmp_path / "project")
    monkeypatch.chdir(tmp_path / "project")
    return tmp_path / "project"


def gateway(*arguments: str) -> Result:
    return CliRunner().invoke(main, arguments, env={"DATABASE_URL": ""})


def catalogue() -> Catalogue:
    return compile_project(load_settings(Path("gateway.toml"), {}))


@pytest.mark.usefixtures("project")
def test_init_writes_settings_over_the_project_and_says_what_is_left_out() -> None:
    result = gateway("init", "--from", "sqlc.yaml")
    assert result.exit_code == 0, result.output
    warnings = [line.partition(": ")[2].partition("; ")[0] for line in result.stderr.splitlines()]
    assert warnings == [
        "queries/boats.sql:2: SQL before the first `-- name:` header belongs to no query and is ignored",
        "queries/boats.sql:70: result kind :copyfrom cannot be served: use :exec, :one or :many, and send a list of"
        " objects or a bulk body",
        "queries/boats.sql:73: result kind :batchexec cannot be served: use :exec, :one or :many, and send a list of"
        " objects or a bulk body",
    ]
    assert result.stdout.splitlines() == [
        "wrote gateway.toml",
        "32 queries can be served",
        "Now write your dsn into gateway.toml, then: gateway check",
    ]
    settings = load_settings(Path("gateway.toml"), {})
    assert settings.catalogue.paths == ("queries", "reports")
    assert settings.catalogue.unservable == "skip"


@pytest.mark.usefixtures("project")
def test_parameters_have_the_names_that_sqlc_gives_them() -> None:
    gateway("init", "--from", "sqlc.yaml")
    told = json.loads((PROJECT / "names.json").read_text())
    found = catalogue()
    assert {*told} == {*found.queries, *found.left_out}
    compared = {name: [one.name for one in query.parameters] for name, query in found.queries.items()}
    differing = {name: names for name, names in compared.items() if names != told[name]}
    assert differing == {"BoatsAny": ["id"]}, "where sqlc finds no name, one that the text tells is no worse"
    assert told["BoatsAny"] == [""]
    assert sum(map(len, compared.values())) == 57


@pytest.mark.usefixtures("project")
def test_an_offline_check_shows_the_names_that_numbers_were_given() -> None:
    gateway("init", "--from", ".")
    result = gateway("check", "--offline")
    assert result.exit_code == 0
    assert "queries/boats.sql:7: ListBoats: $1 length, $2 limit, $3 offset" in result.stdout.splitlines()
    assert "queries/boats.sql:21: RenameBoat: $1 id" in result.stdout.splitlines()
    assert result.stdout.splitlines()[-1] == "32 queries: no faults"


@pytest.mark.parametrize("name", ["sqlc.yaml", "sqlc.yml", "sqlc.json"])
def test_every_form_of_a_configuration_is_read(name: str, project: Path) -> None:
    (project / "sqlc.yaml").unlink()
    package = {"engine": "postgresql", "queries": "./queries/", "path": "db", "name": "db"}
    (project / name).write_text(json.dumps({"version": "1", "packages": [package]}))
    assert gateway("init", "conf", "--from", ".").exit_code == 0
    assert load_settings(Path("conf/gateway.toml"), {}).catalogue.paths == ("conf/../queries",)


def test_a_folder_without_a_configuration_is_searched_for_files_with_queries(project: Path) -> None:
    (project / "sqlc.yaml").unlink()
    (project / "app/sql").mkdir(parents=True)
    (project / "app/sql/more.sql").write_text("-- name: more\nSELECT 1;\n")
    (project / "queries/tables.sql").write_text("CREATE TABLE t ();\n")
    gateway("init", "--from", ".")
    assert load_settings(Path("gateway.toml"), {}).catalogue.paths == (
        "app",
        "queries/boats.sql",
        "queries/owners.sql",
        "reports",
    )


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("sql: 5\n", "sqlc.yaml: is no configuration of sqlc: "),
        ("a: [\n", "sqlc.yaml: is no configuration of sqlc: "),
        ("version: '2'\nsql: [{engine: mysql, queries: q}]\n", "sqlc.yaml: names no queries for PostgreSQL"),
        ("version: '2'\nsql: [{queries: 'no/q*.sql'}]\n", "sqlc.yaml: names no queries for PostgreSQL"),
    ],
)
def test_a_configuration_that_leads_nowhere_is_a_fault(text: str, fault: str, project: Path) -> None:
    (project / "sqlc.yaml").write_text(text)
    result = gateway("init", "--from", "sqlc.yaml")
    assert (result.exit_code, Path("gateway.toml").exists()) == (1, False)
    assert result.stderr.startswith(fault)


def test_faults_of_the_files_are_told_at_the_end(project: Path) -> None:
    (project / "queries/wrong.sql").write_text("-- name: wrong :two\nSELECT 1;\n")
    result = gateway("init", "--from", "sqlc.yaml")
    assert result.exit_code == 1
    assert result.stdout == "wrote gateway.toml\n"
    assert "queries/wrong.sql:1: " in result.stderr


def test_a_folder_without_queries_is_a_fault(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    result = gateway("init", "--from", ".")
    assert result.exit_code == 1
    assert result.stderr.startswith(".: there is no *.sql file with a `-- name:` header below it")
