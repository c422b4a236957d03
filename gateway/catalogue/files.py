"""Which files make up a catalogue: every ``*.sql`` below its paths, in an order that never changes."""

import os
import stat
from collections import deque
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from gateway.catalogue.headers import is_name
from gateway.faults import Fault


class SourceFile(NamedTuple):
    """The text of one query file."""

    where: str
    """Its path as it was reached."""
    prefix: str
    """What its names begin with: ``reports.`` for a file in the folder ``reports``."""
    text: str
    """Line ends as written; a byte order mark is gone."""


def read_files(paths: Sequence[Path]) -> tuple[list[SourceFile], list[Fault]]:
    """Read every query file below ``paths``; a path may be a file itself.

    Hidden files and folders are left out. Folders may be links; a folder that contains itself is entered once.
    What cannot be read is a fault, and the rest is read all the same.
    """
    files: list[SourceFile] = []
    faults: list[Fault] = []
    for path in dict.fromkeys(paths):
        for found in _below(path):
            file = found if isinstance(found, Fault) else _read(*found)
            if isinstance(file, Fault):
                faults.append(file)
            else:
                files.append(file)
    return files, faults


def _below(path: Path) -> Iterator[tuple[Path, str] | Fault]:
    try:
        is_folder = stat.S_ISDIR(path.stat().st_mode)
    except OSError as error:
        yield _unreadable(path, error)
        return
    if is_folder:
        yield from _inside(path)
    else:
        yield path, ""


def _inside(top: Path) -> Iterator[tuple[Path, str] | Fault]:
    """All files below a folder: its own, then those of its folders, level by level; links after real folders."""
    seen: set[tuple[int, int]] = set()
    waiting: deque[tuple[Path, tuple[str, ...]]] = deque([(top, ())])
    while waiting:
        folder, names = waiting.popleft()
        try:
            status = folder.stat()
            entries = [entry for entry in os.scandir(folder) if not entry.name.startswith(".")]
            folders = sorted((entry.is_symlink(), entry.name) for entry in entries if entry.is_dir())
            files = sorted(entry.name for entry in entries if not entry.is_dir() and entry.name.endswith(".sql"))
        except OSError as error:
            yield _unreadable(folder, error)
            continue
        # NOTE: links between folders can make endless, or far too many, ways through them.
        if (status.st_dev, status.st_ino) in seen:
            continue
        seen.add((status.st_dev, status.st_ino))
        if files and not all(map(is_name, names)):
            yield Fault(_shown(folder), 0, "a folder's name here cannot be part of a query's name")
        for file in files:
            yield folder / file, "".join(f"{name}." for name in names)
        waiting.extend((folder / name, (*names, name)) for _, name in folders)


def _read(path: Path, prefix: str) -> SourceFile | Fault:
    try:
        # SECURITY: opening a named pipe would wait for ever.
        if not stat.S_ISREG(path.stat().st_mode):
            return Fault(_shown(path), 0, "is not a regular file")
        data = path.read_bytes()
    except OSError as error:
        return _unreadable(path, error)
    try:
        return SourceFile(_shown(path), prefix, data.decode("utf-8").removeprefix("\ufeff"))
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        return Fault(_shown(path), line, f"is not UTF-8: byte 0x{data[error.start]:02x}")


def _unreadable(path: Path, error: OSError) -> Fault:
    return Fault(_shown(path), 0, f"cannot be read: {error.strerror or error}")


def _shown(path: Path) -> str:
    """The path as text that can be printed and stored, whatever bytes are in it."""
    return os.fsencode(path).decode("utf-8", "replace")
