"""aiosql as an oracle: where its parser is right, ours says the same of the same file."""

import keyword
from pathlib import Path

import aiosql
from aiosql.types import SQLOperationType
from hypothesis import given
from hypothesis import strategies as st

from gateway.catalogue.annotations import read_annotations
from gateway.catalogue.compiling import compile_catalogue
from gateway.catalogue.files import SourceFile
from gateway.catalogue.headers import read_header
from gateway.catalogue.placeholders import find_parameters
from gateway.catalogue.query import Kind
from gateway.catalogue.scanning import scan

KINDS = {
    SQLOperationType.SELECT: Kind.MANY,
    SQLOperationType.SELECT_ONE: Kind.ONE,
    SQLOperationType.SELECT_VALUE: Kind.SCALAR,
    SQLOperationType.INSERT_UPDATE_DELETE: Kind.EXEC,
    SQLOperationType.INSERT_UPDATE_DELETE_MANY: Kind.EXEC,
    SQLOperationType.INSERT_RETURNING: Kind.ONE,
}

Told = tuple[str, Kind, str, list[str]]
"""Name, kind, description, parameters in order of appearance."""


def theirs(text: str) -> list[Told]:
    loader = aiosql.query_loader.QueryLoader(
        aiosql.aiosql._make_driver_adapter("psycopg2"), None, mandatory_parameters=False
    )
    told = []
    for datum in loader.load_query_data_from_sql(text, []):
        assert datum.signature is not None
        names = [name for name in datum.signature.parameters if name != "self"]
        told.append((datum.query_name, KINDS[datum.operation_type], datum.doc_comments, names))
    return told


def ours(text: str) -> list[Told]:
    entries, faults, _ = scan(SourceFile("a.sql", "", text))
    assert faults == []
    told = []
    for entry in entries:
        header, wrong = read_header(entry.header)
        assert header is not None
        assert wrong == []
        said, _ = read_annotations(entry.comments, ())
        marked, misplaced = find_parameters(entry.body, None)
        assert misplaced == []
        told.append((header.name.replace("-", "_"), header.kind, said.description, list(marked.names)))
    return told


WORDS = st.from_regex(r"[a-z][a-z0-9_]{0,8}", fullmatch=True).filter(lambda word: not keyword.iskeyword(word))
"""aiosql makes Python parameters of them."""
FRAGMENTS = st.sampled_from(
    ["a = 1", "b = 'it''s'", "c::int > 2", '"odd" = 3', "d = ':x'", "f(a, b)", "e IS NULL", "g <> 4.5", "h LIKE 'x'"]
)


@st.composite
def queries(draw: st.DrawFn) -> str:
    """One query in the part of the format that aiosql reads correctly."""
    name = draw(st.from_regex(r"[a-z][a-z0-9_-]{0,12}", fullmatch=True))
    suffix = draw(st.sampled_from(["", "^", "$", "!", "<!", "*!"]))
    head = f"-- name: {name}{draw(st.sampled_from(['', ' ']))}{suffix}\n"
    comments = "".join(f"-- {line}\n" for line in draw(st.lists(WORDS, max_size=3)))
    parameters = [f"{draw(WORDS)} = :{name}" for name in draw(st.lists(WORDS, max_size=4))]
    parts = draw(st.permutations([*parameters, *draw(st.lists(FRAGMENTS, max_size=4))]))
    return f"{head}{comments}SELECT 1 FROM t\nWHERE " + "\n  AND ".join(["true", *parts]) + ";\n"


@given(st.lists(queries(), min_size=1, max_size=5))
def test_names_kinds_descriptions_and_parameters_are_those_of_aiosql(parts: list[str]) -> None:
    text = "\n".join(parts)
    assert ours(text) == theirs(text)


# From the shape of aiosql's own documentation and examples.
BLOGS = """\
-- name: get-all-blogs
-- Fetch all fields for every blog in the database.
select * from blogs;

-- name: publish_blog(userid, title, content)<!
-- Insert and return the id.
insert into blogs (userid, title, content, published)
values (:userid, :title, :content, current_date)
returning blogid;

-- name: remove_blog!
-- Remove a blog from the database
delete from blogs where blogid = :blogid;

-- name: get_user_blogs
-- Get blogs authored by a user.
select title, to_char(published, 'YYYY-MM-DD HH24:MI')
  from blogs
 where userid = :userid
 order by published desc;

-- name: bulk_publish*!
insert into blogs (userid, title) values (:userid, :title);

-- name: count_blogs()$
select count(*) from blogs;

-- name: blog_of(blogid)^
select * from blogs where blogid = :blogid;
"""


def test_a_file_written_for_aiosql_loads_as_it_is(tmp_path: Path) -> None:
    (tmp_path / "blogs.sql").write_text(BLOGS, encoding="utf-8")
    catalogue = compile_catalogue([tmp_path], groups={"read": "read", "write": "write"}, timeout=5.0)
    told = {
        (query.name.replace("-", "_"), query.kind, query.description, tuple(one.name for one in query.parameters))
        for query in catalogue.queries.values()
    }
    assert told == {(name, kind, description, tuple(names)) for name, kind, description, names in theirs(BLOGS)}


AUTHORS = """\
-- name: GetAuthor :one
SELECT * FROM authors
WHERE id = $1 LIMIT 1;

-- name: ListAuthors :many
-- @sqlc-vet-disable
SELECT sqlc.embed(authors), name FROM authors
WHERE name = @name OR bio = sqlc.narg('bio')
ORDER BY name;

-- name: CreateAuthor :one
INSERT INTO authors (
  name, bio
) VALUES (
  $1, $2
)
RETURNING *;

-- name: UpdateAuthor :exec
UPDATE authors SET name = sqlc.arg(name) WHERE id = ANY(sqlc.arg(ids)::bigint[]);

-- name: DeleteAuthor :execrows
DELETE FROM authors
WHERE id = $1;
"""


def test_a_file_written_for_sqlc_loads_as_it_is(tmp_path: Path) -> None:
    (tmp_path / "authors.sql").write_text(AUTHORS, encoding="utf-8")
    catalogue = compile_catalogue([tmp_path], groups={"read": "read", "write": "write"}, timeout=5.0)
    told = {
        query.name: (query.kind, [(one.name, one.default) for one in query.parameters])
        for query in catalogue.queries.values()
    }
    assert told == {
        "GetAuthor": (Kind.ONE, [("id", None)]),
        "ListAuthors": (Kind.MANY, [("name", None), ("bio", "null")]),
        "CreateAuthor": (Kind.ONE, [("name", None), ("bio", None)]),
        "UpdateAuthor": (Kind.EXEC, [("name", None), ("ids", None)]),
        "DeleteAuthor": (Kind.EXEC, [("id", None)]),
    }


def test_what_aiosql_mistakes_for_parameters_is_none_here() -> None:
    text = "-- name: a\nSELECT arr[1:2], E'\\':x', $$ :y $$, a -- :z\n"
    assert ours(text)[0][3] == []
    assert theirs(text)[0][3] != []
