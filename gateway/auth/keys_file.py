"""The file of API keys: TOML with one ``[[key]]`` a key, read by every worker and changed by ``gateway key``.

It is changed as text, so that whatever else its owner has written in it stays; what comes out is read again before it
takes the place of the file.
"""

import fcntl
import json
import os
import re
import tempfile
import tomllib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from gateway.auth.keys import Key
from gateway.faults import Fault, FaultsFound
from gateway.settings.units import rate

_NAME = re.compile(r"[A-Za-z0-9_.-]{1,64}")
_ID = re.compile(r"[0-9A-Za-z]{8}")
_SHA256 = re.compile(r"[0-9a-f]{64}")
_HEADER = re.compile(r"^[ \t]*\[\[[ \t]*key[ \t]*\]\]", re.MULTILINE)
_EXPIRES = re.compile(r"^[ \t]*expires[ \t]*=.*$", re.MULTILINE)
_KNOWN = frozenset({"id", "sha256", "name", "roles", "created", "expires", "rate", "parameters"})
_LARGEST = 16 << 20
_RESERVED = ("sub", "roles")
"""Claims of a key that are not its parameters'."""
_HEAD = "# API keys of pg-query-gateway, by their hashes. Written by `gateway key`; see docs/security.md.\n"


def read(path: Path) -> list[Key]:
    """Read the keys; raises FaultsFound with all that is wrong."""
    try:
        with path.open("rb") as file:
            content = file.read(_LARGEST + 1)
    except OSError as error:
        raise FaultsFound([Fault(str(path), 0, f"cannot be read: {error.strerror}")]) from None
    if len(content) > _LARGEST:
        raise FaultsFound([Fault(str(path), 0, "is too long for a file of keys")])
    return parse(content, str(path))


def parse(content: bytes, where: str) -> list[Key]:
    """Return the keys in a file's content; ``where`` names the file. Raises FaultsFound."""
    try:
        text = content.decode()
        tables = tomllib.loads(text)
    except (ValueError, RecursionError) as error:  # ValueError alone: a number of more than 4,300 digits
        # NOTE: without what TOML's parser says of the place: hashes are no secrets, but nobody has to see them.
        raise FaultsFound([Fault(where, 0, f"is not valid TOML ({type(error).__name__})")]) from None
    lines = [text.count("\n", 0, header.start()) + 1 for header in _HEADER.finditer(text)]
    faults = [Fault(where, 0, f"there is no {name}, only [[key]]") for name in tables if name != "key"]
    keys: list[Key] = []
    written = tables.get("key", [])
    if not isinstance(written, list) or not all(isinstance(table, dict) for table in written):
        raise FaultsFound([Fault(where, 0, "keys are written as [[key]]"), *faults])
    for index, table in enumerate(written):
        line = lines[index] if len(lines) == len(written) else 0
        wrong = [*_faults_of(table)]
        if any(table.get("id") == key.id for key in keys):
            wrong.append(f"the id {table['id']} is there twice")
        if wrong:
            faults += [Fault(where, line, f"key {index + 1}: {message}") for message in wrong]
        else:
            keys.append(_key(table))
    if faults:
        raise FaultsFound(faults)
    return keys


def _faults_of(table: dict[str, Any]) -> Iterator[str]:
    for unknown in sorted(table.keys() - _KNOWN):
        yield f"there is no setting {unknown}; there are {', '.join(sorted(_KNOWN))}"
    for name, form, meant in (("id", _ID, "8 letters and digits"), ("sha256", _SHA256, "64 hex digits"),
                              ("name", _NAME, "1 to 64 letters, digits, `_`, `.` or `-`")):  # fmt: skip
        if not (isinstance(table.get(name), str) and form.fullmatch(table[name])):
            yield f"{name} must be {meant}"
    if not _are_roles(table.get("roles", [])):
        yield 'roles must be a list of words, such as ["sales"]'
    for name in ("created", "expires"):
        if name in table and not (isinstance(table[name], datetime) and table[name].tzinfo is not None):
            yield f"{name} must be a time with its offset, such as 2027-01-31T00:00:00Z, without quotes"
    if not isinstance(table.get("rate", ""), str):
        yield 'rate must be text, such as "100/s"'
    elif "rate" in table:
        try:
            rate(table["rate"])
        except ValueError as error:
            yield f"rate {error}"
    parameters = table.get("parameters", {})
    if not isinstance(parameters, dict) or not all(map(_is_plain, parameters.values())):
        yield "parameters must be a table of strings, numbers, booleans, or lists of them"
    elif reserved := [name for name in _RESERVED if name in parameters]:
        yield f"{reserved[0]} cannot be a parameter: it is a claim of every key"


def _are_roles(value: object) -> bool:
    return isinstance(value, list) and all(isinstance(role, str) and re.fullmatch(r"[^\s,]+", role) for role in value)


def _is_plain(value: object) -> bool:
    if isinstance(value, list):
        return all(not isinstance(item, list) and _is_plain(item) for item in value)
    if isinstance(value, str):
        return "\0" not in value
    return isinstance(value, int) or (isinstance(value, float) and abs(value) < float("inf"))


def _key(table: dict[str, Any]) -> Key:
    times = {name: table[name].timestamp() for name in ("created", "expires") if name in table}
    return Key(**table | {"roles": tuple(table.get("roles", ()))} | times)


# --- changes ----------------------------------------------------------------------------------------------------------


def added(text: str, key: Key) -> str:
    """The file's text with one more key."""
    lines = ["[[key]]", f"id = {_toml(key.id)}", f"sha256 = {_toml(key.sha256)}", f"name = {_toml(key.name)}"]
    lines += [f"roles = {_toml(list(key.roles))}", f"created = {_time(key.created)}"]
    if key.expires is not None:
        lines.append(f"expires = {_time(key.expires)}")
    if key.rate is not None:
        lines.append(f"rate = {_toml(key.rate)}")
    if key.parameters:
        pairs = ", ".join(f"{_toml(name)} = {_toml(value)}" for name, value in key.parameters.items())
        lines.append(f"parameters = {{ {pairs} }}")
    before = text or _HEAD
    return before + ("" if before.endswith("\n") else "\n") + "\n" + "\n".join(lines) + "\n"


def removed(text: str, index: int) -> str:
    """The file's text without the key of this index."""
    begin, end = _place(text, index)
    return text[:begin] + text[end:]


def expiring(text: str, index: int, at: float) -> str:
    """The file's text with a time at which the key of this index expires."""
    begin, end = _place(text, index)
    block = text[begin:end]
    line = f"expires = {_time(at)}"
    if _EXPIRES.search(block):
        block = _EXPIRES.sub(line, block, count=1)
    else:
        head, _, rest = block.partition("\n")
        block = f"{head}\n{line}\n{rest}"
    return text[:begin] + block + text[end:]


def _place(text: str, index: int) -> tuple[int, int]:
    starts = [header.start() for header in _HEADER.finditer(text)]
    return starts[index], (starts[index + 1] if index + 1 < len(starts) else len(text))


def _toml(value: Any) -> str:
    """Strings, numbers, booleans and lists of them: as JSON writes them they are TOML, but for the names of keys."""
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")


def _time(seconds: float) -> str:
    return datetime.fromtimestamp(int(seconds), UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


@contextmanager
def changing(path: Path) -> Iterator[tuple[str, list[Key], Callable[[str, Sequence[Key]], None]]]:
    """Hold the file for one change: gives its text, its keys, and a function that puts a text in its place.

    That function takes also the keys which the text is to have, and raises FaultsFound where it has others, as it may
    where tables are written in a way that a change of text does not see. Without a file there are no keys. Raises
    FaultsFound and OSError.
    """
    path = path.resolve()  # a link stays one
    lock = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        exists = path.exists()
        keys = read(path) if exists else []
        text = path.read_text(encoding="utf-8") if exists else ""

        def write(changed: str, expected: Sequence[Key]) -> None:
            if parse(changed.encode(), str(path)) != list(expected):
                raise FaultsFound([Fault(str(path), 0, "is not written as [[key]] tables: change it by hand")])
            _replace(path, changed)

        yield text, keys, write
    finally:
        os.close(lock)


def _replace(path: Path, text: str) -> None:
    """Put a text into the place of the file, mode 0600, or that and owner of the file that was there."""
    handle, draft = tempfile.mkstemp(prefix=f".{path.name}-", dir=path.parent)
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(handle)
            if path.exists():
                status = path.stat()
                os.fchmod(handle, status.st_mode & 0o777)
                if (status.st_uid, status.st_gid) != (os.geteuid(), os.getegid()):
                    os.fchown(handle, status.st_uid, status.st_gid)
        Path(draft).replace(path)
    except BaseException:
        Path(draft).unlink(missing_ok=True)
        raise
