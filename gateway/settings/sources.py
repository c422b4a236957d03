"""Where settings come from: a TOML file, the environment, the command line. Read only, nothing is judged here."""

import re
import tomllib
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from msgspec import Struct

from gateway.faults import Fault
from gateway.settings.model import NAMED_SECTIONS, SECTIONS

PREFIX = "GATEWAY_"

_HEADER = re.compile(r"\s*\[\s*([^\[\]]+?)\s*\]")
_KEY = re.compile(r"""\s*([A-Za-z0-9_\-."' ]+?)\s*=""")
_AT_LINE = re.compile(r" \(at line (\d+), column \d+\)$")

KeyPath = tuple[str, ...]


class Source(Struct, frozen=True):
    """Where a value was written."""

    where: str
    line: int = 0
    folder: str = "."
    """Relative paths count from here."""
    rank: int = 0
    """The higher beats the lower."""
    is_text: bool = False
    """The value is text whatever its key's type is: it comes from the environment or the command line."""

    def fault(self, message: str) -> Fault:
        """Return a fault that names this place."""
        return Fault(self.where, self.line, message)


class Given(Struct, frozen=True):
    """One value, as it was written."""

    path: KeyPath
    value: Any
    source: Source


class Reading(Struct, frozen=True):
    """What was read from one source: values, the endpoints and groups it names, and its faults."""

    values: list[Given]
    names: dict[KeyPath, Source]
    faults: list[Fault]
    is_readable: bool = True
    """False: the source as a whole could not be read, so nothing is known of its content."""


def read_file(path: Path) -> Reading:
    """Read ``gateway.toml``; a file that is no TOML is one fault."""
    try:
        text = path.read_text(encoding="utf-8")
        content = tomllib.loads(text)
    except OSError as error:
        return Reading([], {}, [Fault(str(path), 0, f"cannot be read: {error.strerror}")], is_readable=False)
    except UnicodeDecodeError:
        return Reading([], {}, [Fault(str(path), 0, "is not UTF-8 text")], is_readable=False)
    except tomllib.TOMLDecodeError as error:
        at = _AT_LINE.search(str(error))
        message = f"not valid TOML: {_AT_LINE.sub('', str(error))}"
        return Reading([], {}, [Fault(str(path), int(at[1]) if at else 0, message)], is_readable=False)
    except (ValueError, RecursionError):  # a number of thousands of digits, thousands of brackets
        return Reading(
            [], {}, [Fault(str(path), 0, "holds a value that is too long or nested too deep")], is_readable=False
        )
    reading = Reading([], {}, [])
    lines = _lines(text)
    _walk(content, (), lambda key: Source(str(path), _line(lines, key), str(path.parent)), reading)
    return reading


def read_environment(environ: Mapping[str, str], known: Iterable[KeyPath]) -> Reading:
    """Read every ``GATEWAY_SECTION__KEY``; ``known`` are the endpoints and groups the file names.

    A variable without a double underscore is not ours (Kubernetes adds ``GATEWAY_PORT`` and others where a service
    is called ``gateway``), unless it is a key of ours with its underscores wrong.
    """
    reading = Reading([], {}, [])
    names = {_as_variable(path): path for path in known}
    for variable in sorted(name for name in environ if name.startswith(PREFIX)):
        source = Source(f"environment {variable}", rank=2, is_text=True)
        parts = tuple(variable.removeprefix(PREFIX).lower().split("__"))
        if len(parts) == 1:
            if meant := _misspelt(parts[0]):
                reading.faults.append(source.fault(f"sections and keys are joined by two underscores: {meant}"))
            continue
        if parts[0] in NAMED_SECTIONS and len(parts) == 3:
            name = names.get(_as_variable(parts[:2]), parts[:2])
            reading.names.setdefault(name, source)
            parts = (*name, parts[2])
        elif parts[0] not in SECTIONS or len(parts) != 2:
            reading.faults.append(source.fault(f"there is no setting {'.'.join(parts)}"))
            continue
        reading.values.append(Given(parts, environ[variable], source))
    return reading


def read_overrides(overrides: Mapping[str, Any]) -> Reading:
    """Read the options of the command line: ``{"server.workers": 4}`` is ``--workers``. None: not given."""
    values = [
        Given(tuple(key.split(".")), value, Source(f"--{key.rpartition('.')[2]}", rank=3, is_text=True))
        for key, value in overrides.items()
        if value is not None
    ]
    return Reading(values, {}, [])


def _walk(content: dict[str, Any], path: KeyPath, source_of: Callable[[KeyPath], Source], reading: Reading) -> None:
    for key, value in content.items():
        here = (*path, key)
        depth_of_table = 2 if here[0] in NAMED_SECTIONS else 1
        if len(here) > depth_of_table:
            reading.values.append(Given(here, value, source_of(here)))
        elif here[0] not in SECTIONS and here[0] not in NAMED_SECTIONS:
            reading.faults.append(source_of(here).fault(f"there is no section [{key}]"))
        elif not isinstance(value, dict):
            reading.faults.append(source_of(here).fault(f"{'.'.join(here)} must be a table"))
        else:
            if len(here) == 2:
                reading.names[here] = source_of(here)
            _walk(value, here, source_of, reading)


def _lines(text: str) -> dict[KeyPath, int]:
    """Find the line of every header and key by a pattern; exact enough for messages, not for the values."""
    lines: dict[KeyPath, int] = {}
    table: KeyPath = ()
    for number, line in enumerate(text.splitlines(), 1):
        if header := _HEADER.match(line):
            table = _dotted(header[1])
            lines.setdefault(table, number)
        elif key := _KEY.match(line):
            lines.setdefault((*table, *_dotted(key[1])), number)
    return lines


def _dotted(text: str) -> KeyPath:
    return tuple(part.strip().strip("\"'") for part in text.split("."))


def _line(lines: dict[KeyPath, int], key: KeyPath) -> int:
    return next((lines[key[:length]] for length in range(len(key), 0, -1) if key[:length] in lines), 0)


def _as_variable(path: KeyPath) -> str:
    return "__".join(path).replace("-", "_").lower()


def _misspelt(name: str) -> str | None:
    """Return the variable meant by one with single underscores, if it is a key of ours."""
    for section, struct in SECTIONS.items():
        for key in struct.__struct_fields__:
            if name in (f"{section}_{key}", key):
                return f"{PREFIX}{section}__{key}".upper()
    for section, struct in NAMED_SECTIONS.items():
        for key in struct.__struct_fields__:
            if match := re.fullmatch(rf"{section}_(\w+)_{key}", name):
                return f"{PREFIX}{section}__{match[1]}__{key}".upper()
    return None
