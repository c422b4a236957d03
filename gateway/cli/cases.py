"""Test cases of queries: ``*.test.toml`` files beside them, each with ``[[test]]`` tables."""

import tomllib
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import msgspec

from gateway.faults import Fault

SUFFIX = ".test.toml"


class Who(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Who calls, as a verified token or key would say it."""

    name: str = "test"
    roles: tuple[str, ...] = ()
    claims: dict[str, Any] = {}


class _Written(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    query: str
    name: str = ""
    arguments: dict[str, Any] | str = {}
    caller: Who | None = None
    expect: dict[str, Any] | str | None = None
    code: str | None = None


class Case(msgspec.Struct, frozen=True):
    """One test: a call, and the answer or the code of the problem that is expected."""

    file: Path
    number: int
    """In its file, from 1."""
    query: str
    name: str
    arguments: dict[str, Any]
    caller: Who | None
    expect: dict[str, Any] | None
    code: str | None

    @property
    def title(self) -> str:
        """How it is called in reports."""
        return f"{self.query}: {self.name}" if self.name else f"{self.query} #{self.number}"


def files_in(paths: Iterable[Path]) -> list[Path]:
    """Return the files of test cases among these paths and below them, in order."""
    found = {
        file
        for path in paths
        for file in (path.rglob(f"*{SUFFIX}") if path.is_dir() else [path])
        if file.name.endswith(SUFFIX)
    }
    return sorted(found)


def read(file: Path, queries: Mapping[str, object]) -> tuple[list[Case], list[Fault]]:
    """Read a file's cases, with every fault of it; ``queries`` are those that there are."""
    try:
        content = tomllib.loads(file.read_text(encoding="utf-8"))
    except OSError as error:
        return [], [Fault(str(file), 0, f"cannot be read: {error.strerror}")]
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        return [], [Fault(str(file), 0, f"is no TOML: {error}")]
    written = content.pop("test", [])
    faults = [Fault(str(file), 0, f"there is no {key}; a case is a [[test]] table") for key in content]
    if not isinstance(written, list):
        return [], [*faults, Fault(str(file), 0, "a case is a [[test]] table, with two brackets")]
    cases = []
    for number, table in enumerate(written, 1):
        try:
            case = msgspec.convert(table, type=_Written)
            arguments, expect = _decoded(case.arguments), _decoded(case.expect)
        except msgspec.MsgspecError as error:
            faults.append(Fault(str(file), 0, f"test {number}: {str(error)[0].lower()}{str(error)[1:]}"))
            continue
        faults += (Fault(str(file), 0, f"test {number}: {message}") for message in _faults_of(case, queries))
        cases.append(Case(file, number, case.query, case.name, arguments or {}, case.caller, expect, case.code))
    return cases, faults


def _decoded(value: dict[str, Any] | str | None) -> dict[str, Any] | None:
    """A table, or the object that a text is the JSON of: TOML has no null. Raises MsgspecError."""
    return msgspec.json.decode(value, type=dict[str, Any]) if isinstance(value, str) else value


def _faults_of(case: _Written, queries: Mapping[str, object]) -> Iterator[str]:
    if case.query not in queries:
        yield f"there is no query {case.query}"
    if (case.expect is None) == (case.code is None):
        yield "says either expect (the answer) or code (that of a problem)"


def differences(expected: Any, got: Any, where: str = "") -> Iterator[str]:
    """Yield what is not as expected. Of objects only the members that are named count; of lists everything does."""
    if isinstance(expected, dict) and isinstance(got, dict):
        for key, value in expected.items():
            if key not in got:
                yield f"{where}/{key} is missing"
            else:
                yield from differences(value, got[key], f"{where}/{key}")
    elif isinstance(expected, list) and isinstance(got, list):
        if len(expected) != len(got):
            yield f"{where or '/'} has {len(got)} elements instead of {len(expected)}"
        for index, (one, other) in enumerate(zip(expected, got, strict=False)):
            yield from differences(one, other, f"{where}/{index}")
    elif expected != got or isinstance(expected, bool) != isinstance(got, bool):
        yield f"{where or '/'} is {_shown(got)} instead of {_shown(expected)}"


def _shown(value: Any) -> str:
    text = msgspec.json.encode(value).decode()
    return text if len(text) <= 200 else f"{text[:200]}…"
