"""What ``gateway init`` writes: a settings file that shows every key with its default, and a first query."""

import json
from collections.abc import Iterator, Mapping
from typing import Any

from msgspec import Struct

from gateway.settings.keys import Key, keys_of
from gateway.settings.model import NAMED_SECTIONS, SECTIONS, GroupSettings, Settings
from gateway.settings.units import duration_text, rate_text, size_text

_PREFACE = """\
# pg-query-gateway. Every line that begins with "# " and a key shows that key's default.
#
# The environment beats this file: GATEWAY_SERVER__WORKERS=4 is [server] workers, and
# GATEWAY_ENDPOINTS__PRIMARY__DSN=... is [endpoints.primary] dsn.
# Durations are "250ms", "5s", "2m", "1h"; sizes are "64kB", "1MB". Relative paths count from this file's folder.
# `gateway check` says what is wrong with this file and the queries, and prepares every query on every server.
"""
_COMMENT_AT = 31
"""The column of the comments, where the key and its value leave room."""

FIRST_QUERY = """\
-- name: hello(name)^
-- A first query: one row. Try it with
--   curl 'http://127.0.0.1:8080/query/hello?name=you'
-- @param name text = "world" maxLength=100 -- who is greeted
SELECT 'Hello, ' || :name || '!' AS greeting, now() AS at;
"""


def settings_template(given: Mapping[str, Mapping[str, Any]] = {}) -> str:
    """Write the file from the declarations of all keys that have a description.

    ``given`` are values, by table and key, that are written as such and not as a default.
    """
    return "\n".join([_PREFACE, *("\n".join(table) + "\n" for table in _tables(given))])


def _tables(given: Mapping[str, Mapping[str, Any]]) -> Iterator[list[str]]:
    for section, declared in keys_of(Settings).items():
        if section in SECTIONS:
            yield [f"[{section}]", *_lines(SECTIONS[section], {}, given=given.get(section, {}))]
            continue
        if section not in NAMED_SECTIONS:
            continue
        above = f"# {declared.description}"
        for name in declared.examples:
            changed = GroupSettings.defaults_of(name) if section == "groups" else {}
            lines = _lines(NAMED_SECTIONS[section], changed, only_changed=name != declared.examples[0])
            yield [*([above] if name == declared.examples[0] else []), f"[{section}.{name}]", *lines]


def _lines(
    struct: type[Struct],
    changed: Mapping[str, Any],
    *,
    only_changed: bool = False,
    given: Mapping[str, Any] = {},
) -> Iterator[str]:
    """One line a key; ``changed`` are defaults that differ in this table, ``given`` what is to hold."""
    plain = struct()
    for name, key in keys_of(struct).items():
        if key.description is None or (only_changed and name not in changed):
            continue
        if name in given:
            yield f"{name} = {json.dumps(given[name])}"
            continue
        value = changed.get(name, key.examples[0] if key.examples else getattr(plain, name))
        line = f"{name} = {_toml(value, key)}"
        if key.description and not only_changed:
            line = f"# {line}".ljust(_COMMENT_AT) + f"# {key.description}"
        yield line if line.startswith("#") or not only_changed else f"# {line}"


def _toml(value: Any, key: Key) -> str:
    match key.kind:
        case "duration":
            return f'"{duration_text(value)}"'
        case "rate":
            return f'"{rate_text(value)}"'
        case "size":
            return f'"{size_text(value)}"'
        case _ if key.plain is tuple and len(value) == 1 and not key.examples:
            return json.dumps(value[0]) if key.kind != "paths" else json.dumps(value)
        case _:
            return json.dumps(value)
