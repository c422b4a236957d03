"""One list of events: what is defined, what is reported, and what the handbook says of it are the same."""

import json
import re
from pathlib import Path

import msgspec
import pytest

import gateway
from gateway import events
from gateway.events import EVENTS, Event

PACKAGE = Path(gateway.__file__).parent
ROOT = PACKAGE.parent
HANDBOOK = (ROOT / "docs" / "operations.md").read_text(encoding="utf-8")
NOT_REPORTED = {"Event", "RequestEvent"}
"""What several events have in common."""


def sources() -> str:
    """All code but that of the events themselves."""
    files = [file for file in PACKAGE.rglob("*.py") if file.parent != PACKAGE / "events"]
    return "\n".join(file.read_text(encoding="utf-8") for file in files)


def test_every_event_that_is_defined_is_on_the_list() -> None:
    defined = {
        each
        for each in vars(events).values()
        if isinstance(each, type) and issubclass(each, Event) and each is not Event
    }
    assert {each.__name__ for each in defined} - NOT_REPORTED == {each.__name__ for each in EVENTS}


def test_every_event_on_the_list_is_reported_somewhere() -> None:
    code = sources()
    assert [each.__name__ for each in EVENTS if not re.search(rf"\b{each.__name__}\(", code)] == []


@pytest.mark.parametrize("event", EVENTS)
def test_an_event_is_named_as_its_class(event: type[Event]) -> None:
    assert event.name == re.sub(r"(?<!^)(?=[A-Z])", "_", event.__name__).lower()
    assert event.__str__ is not object.__str__


@pytest.mark.parametrize("event", EVENTS)
def test_no_field_of_an_event_holds_values_or_sql(event: type[Event]) -> None:
    assert not {"sql", "statement", "text_of_query", "values", "literals", "password", "key", "token", "dsn"} & {
        *event.__struct_fields__
    }


@pytest.mark.parametrize("event", EVENTS)
def test_no_field_of_an_event_takes_the_place_of_what_every_line_of_the_log_has(event: type[Event]) -> None:
    assert not {"time", "level", "event", "pid", "message", "traceback"} & {*event.__struct_fields__}


def test_the_handbook_has_every_event_and_no_other() -> None:
    table = HANDBOOK[HANDBOOK.index("| event | when |") :].partition("\n\n")[0]
    assert re.findall(r"^\| `([a-z_]+)` \|", table, re.MULTILINE) == [event.name for event in EVENTS]


def test_the_lines_of_the_handbook_have_the_fields_that_events_have() -> None:
    block = re.search(r"^Lines of ten kinds.*?```\n(.*?)```", HANDBOOK, re.MULTILINE | re.DOTALL)
    assert block is not None
    lines = [json.loads(line) for line in re.sub(r"\n ", "", block[1]).splitlines()]
    kinds = {event.name: event for event in EVENTS}
    assert len({line["event"] for line in lines}) == len(lines) == 10
    for line in lines:
        kind = kinds[line["event"]]
        fields = {name: value for name, value in line.items() if name in kind.__struct_fields__}
        assert line.keys() - fields.keys() <= {"time", "level", "event", "pid", "message"}
        event = msgspec.convert(fields, kind)
        assert line["message"] == str(event)
        assert line["level"] == event.level.name.lower()
