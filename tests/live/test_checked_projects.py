"""``gateway check`` over a project: it passes where its files can be served, and says what every call would meet."""

from collections.abc import Iterator
from pathlib import Path

import psycopg2.extensions
import pytest
from click.testing import CliRunner, Result

from gateway.catalogue.compiling import compile_project
from gateway.cli.main import main
from gateway.demo.cluster import Cluster
from gateway.settings import load_settings
from tests.live.databases import Desk, connect, database, plain
from tests.test_sqlc_project import PROJECT

MORE = """
CREATE ROLE clerk LOGIN;
GRANT SELECT ON boat TO clerk;
CREATE FUNCTION peek() RETURNS bigint LANGUAGE sql STABLE AS 'SELECT count(*) FROM boat';
CREATE VIEW moorings AS SELECT moor(1, 2) AS boat_id;
"""


@pytest.fixture(scope="module")
def dsn(cluster: Cluster) -> Iterator[str]:
    with database(cluster.primary, "checked_projects") as dsn:
        with plain(dsn) as cursor:
            cursor.execute("DROP ROLE IF EXISTS clerk")
            cursor.execute((PROJECT / "schema.sql").read_text())
            cursor.execute(MORE)
        yield dsn
        with plain(dsn) as cursor:
            cursor.execute("DROP OWNED BY clerk; DROP ROLE clerk")


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def check(dsn: str, *arguments: str) -> Result:
    return CliRunner().invoke(main, ["check", *arguments], env={"DATABASE_URL": dsn})


def test_a_project_of_sqlcs_passes_as_it_stands(dsn: str, folder: Path) -> None:
    made = CliRunner().invoke(main, ["init", "--from", str(PROJECT / "sqlc.yaml")])
    assert made.exit_code == 0, made.output
    settings = (folder / "gateway.toml").read_text()
    (folder / "gateway.toml").write_text(settings.replace('dsn = "', '# dsn = "'))
    result = check(dsn)
    assert result.exit_code == 0, result.output
    assert result.stdout.splitlines()[-1] == "32 queries, 1 endpoint: no faults"


def test_what_it_passes_can_be_called(dsn: str, folder: Path) -> None:
    (folder / "gateway.toml").write_text(f'[catalogue]\npaths = ["{PROJECT}/queries"]\nunservable = "skip"\n')
    queries = compile_project(load_settings(None, {"DATABASE_URL": dsn})).queries
    desk = Desk(connect(dsn), folder / "one")
    texts = {name: _entry(query.file, query.line) for name, query in queries.items()}
    try:
        assert desk.value(texts["CreateOwner"], '{"name": "Ann", "settings": {}}') == '{"id":1}'
        desk.run(texts["CreateBoat"], '{"id": 1, "name": "Ada", "length": 7}')
        desk.run(texts["RenameBoat"], '{"id": 1, "new_name": "Eve"}')
        desk.run(texts["RenameBoat"], '{"id": 1}')
        assert desk.rows(texts["BoatsByIds"], '{"ids": [1, 2]}') == ['{"id":1,"name":"Eve"}']
        assert desk.rows(texts["BoatsFound"], '{"q": "eve"}') == ['{"id":1}']
        assert desk.value(texts["MoorBoat"], '{"boat_id": 1, "pier": 3}') == '{"boat_id":1}'
        assert desk.affected(texts["EmptyVisits"]) == 0
        assert desk.affected(texts["RefreshBoatsOfOwner"]) == 0
        assert desk.affected(texts["PlaceBoat"], '{"id": 1, "name": "Eva", "note": "by the pier"}') == 1
    finally:
        desk.connection.close()


def _entry(file: str, line: int) -> str:
    lines = Path(file).read_text().splitlines()
    following = next((n for n, text in enumerate(lines[line:], line) if "name:" in text), len(lines))
    return "\n".join(lines[line - 1 : following]).replace("/* name:", "-- name:").replace(" */", "")


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        (
            "-- name: a!\nINSERT INTO boat (id, name) VALUES ($1, $2) ON CONFLICT (name) DO NOTHING",
            "a: there is no unique or exclusion constraint matching the ON CONFLICT specification [42P10]",
        ),
        (
            "-- name: a\nSELECT id FROM boat WHERE to_tsvector('simple', name) @@ to_tsquery('simple', 'two words')",
            'a: syntax error in tsquery: "two words" [42601]',
        ),
        ("-- name: a!\nTRUNCATE boats", 'a: there is no relation "boats"'),
    ],
)
def test_what_no_call_could_do_is_a_fault(text: str, fault: str, dsn: str, folder: Path) -> None:
    (folder / "queries").mkdir()
    (folder / "queries/a.sql").write_text(text)
    result = check(dsn)
    assert result.exit_code == 1
    assert result.stderr.splitlines()[-2:] == [f"queries/a.sql:1: {fault}", "1 fault"]


def test_a_missing_privilege_is_a_fault(dsn: str, folder: Path) -> None:
    (folder / "queries").mkdir()
    (folder / "queries/a.sql").write_text("-- name: a\nSELECT id FROM boat\n-- name: b!\nDELETE FROM boat")
    assert check(dsn).exit_code == 0
    result = check(psycopg2.extensions.make_dsn(dsn, user="clerk"))
    assert result.stderr.splitlines()[-2:] == [
        "queries/a.sql:3: b: permission denied for table boat [42501]",
        "1 fault",
    ]


def test_planning_runs_nothing(dsn: str, folder: Path) -> None:
    (folder / "queries").mkdir()
    (folder / "queries/a.sql").write_text(
        "-- name: a^\n-- @access write\nSELECT moor(7, 7)\n-- name: b!\nDELETE FROM visit"
    )
    with plain(dsn) as cursor:
        cursor.execute("INSERT INTO boat (id, name) VALUES (99, 'still here')")
        cursor.execute("INSERT INTO visit (boat_id, pier) VALUES (99, 1)")
        assert check(dsn).exit_code == 0
        cursor.execute("DELETE FROM visit WHERE boat_id = 99 RETURNING pier")
        assert cursor.fetchall() == [(1,)]


def test_a_read_that_calls_a_volatile_function_of_users_is_warned_of(dsn: str, folder: Path) -> None:
    (folder / "queries").mkdir()
    entries = {
        "a": "SELECT moor(1, 2)",
        "b": "SELECT * FROM moorings",
        "c": "SELECT peek(), random(), clock_timestamp()",
        "d": "-- @access write\nSELECT moor(1, 2)",
    }
    text = "\n".join(f"-- name: {name}\n{entry};" for name, entry in entries.items())
    (folder / "queries/a.sql").write_text(text)
    result = check(dsn)
    assert result.exit_code == 0
    warned = [line for line in result.stderr.splitlines() if "may write" in line]
    message = 'it calls moor, which may write: add "-- @access write", or declare the function STABLE'
    assert warned == [f"queries/a.sql:{line}: warning: {name}: {message}" for line, name in ((1, "a"), (3, "b"))]
