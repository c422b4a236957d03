"""Test cases of queries: read with all their faults, and compared with what was answered."""

from pathlib import Path

import pytest

from gateway.cli.cases import differences, files_in, read

GOOD = '[[test]]\nquery = "q"\narguments = {a = 1}\nexpect = {row = {id = 1}}\n'


def faults(tmp_path: Path, text: str) -> list[str]:
    file = tmp_path / "q.test.toml"
    file.write_text(text)
    return [str(fault).partition(": ")[2] for fault in read(file, {"q": None})[1]]


def test_files_of_cases_are_found_beside_queries_and_below(tmp_path: Path) -> None:
    (tmp_path / "more").mkdir()
    for name in ("a.test.toml", "more/b.test.toml", "c.toml", "d.sql"):
        (tmp_path / name).touch()
    found = files_in([tmp_path, tmp_path / "a.test.toml", tmp_path / "c.toml"])
    assert [file.name for file in found] == ["a.test.toml", "b.test.toml"]


def test_a_case_is_read(tmp_path: Path) -> None:
    file = tmp_path / "q.test.toml"
    file.write_text(GOOD + '[[test]]\nquery = "q"\nname = "strange"\ncode = "forbidden"\ncaller = {roles = ["r"]}\n')
    (one, two), wrong = read(file, {"q": None})
    assert wrong == []
    assert (one.title, one.arguments, one.expect, one.code) == ("q #1", {"a": 1}, {"row": {"id": 1}}, None)
    assert two.caller is not None
    assert (two.title, two.code, two.caller.roles) == ("q: strange", "forbidden", ("r",))


def test_what_toml_cannot_say_is_written_as_json(tmp_path: Path) -> None:
    file = tmp_path / "q.test.toml"
    file.write_text('[[test]]\nquery = "q"\narguments = \'{"a": null}\'\nexpect = \'{"row": null}\'\n')
    ((case,), wrong) = read(file, {"q": None})
    assert (case.arguments, case.expect, wrong) == ({"a": None}, {"row": None}, [])


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('[[test]]\nquery = "q"\nexpect = "{"', "test 1: input data was truncated"),
        ("[[test", "is no TOML"),
        ("[test]\nquery = 1", "two brackets"),
        ("[[tset]]\n", "there is no tset"),
        ('[[test]]\nexpect = {}\nquery = "other"', "test 1: there is no query other"),
        ('[[test]]\nquery = "q"', "test 1: says either expect (the answer) or code"),
        (GOOD + 'code = "x"', "test 1: says either expect"),
        ('[[test]]\nquery = "q"\ncode = "x"\nargs = {}', "test 1: object contains unknown field `args`"),
    ],
)
def test_each_mistake_is_told(tmp_path: Path, text: str, said: str) -> None:
    (fault,) = faults(tmp_path, text)
    assert said in fault


def test_of_objects_what_is_named_counts_and_of_lists_everything() -> None:
    got = {"rows": [{"id": 1, "n": 2}, {"id": 2, "n": None}], "row_count": 2}
    assert list(differences({"rows": [{"id": 1}, {"n": None}]}, got)) == []
    assert list(differences({"rows": [{"id": 1}]}, got)) == ["/rows has 2 elements instead of 1"]
    assert list(differences({"row_count": 3, "x": 1}, got)) == ["/row_count is 2 instead of 3", "/x is missing"]
    assert list(differences({"rows": [{"id": True}, {}]}, got)) == ["/rows/0/id is 1 instead of true"]
