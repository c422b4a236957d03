"""Finds the query files of a project that has some already, for ``gateway init --from``."""

import glob
import os
from collections.abc import Iterator, Sequence
from pathlib import Path

import msgspec

from gateway.faults import Fault, FaultsFound

_CONFIGURATIONS = ("sqlc.yaml", "sqlc.yml", "sqlc.json")
_POSTGRESQL = "postgresql"
_ANY_SQL = "*.sql"


class _Queries(msgspec.Struct):
    """What an entry of ``sql`` (version 2) or ``packages`` (version 1) says of its query files."""

    queries: str | list[str] = []
    engine: str = _POSTGRESQL


class _Configuration(msgspec.Struct):
    """A sqlc.yaml of either version, as far as it is of interest here."""

    sql: list[_Queries] = []
    packages: list[_Queries] = []


def query_paths(source: Path) -> list[Path]:
    """The files and folders that hold queries: what a ``sqlc.yaml`` names, or what is found below a folder.

    Raises FaultsFound.
    """
    if source.is_dir():
        configurations = [source / name for name in _CONFIGURATIONS if (source / name).is_file()]
        if not configurations:
            return _of_folder(source)
        source = configurations[0]
    return _of_configuration(source)


def _of_configuration(file: Path) -> list[Path]:
    decode = msgspec.json.decode if file.suffix == ".json" else msgspec.yaml.decode
    try:
        found = decode(file.read_bytes(), type=_Configuration)
    except OSError as error:
        raise FaultsFound([Fault(str(file), 0, f"cannot be read: {error.strerror}")]) from error
    except msgspec.MsgspecError as error:
        raise FaultsFound([Fault(str(file), 0, f"is no configuration of sqlc: {error}")]) from error
    entries = [entry for entry in (*found.sql, *found.packages) if entry.engine == _POSTGRESQL]
    paths = [path for entry in entries for path in _named(file.parent, entry.queries)]
    if not paths:
        raise FaultsFound([Fault(str(file), 0, "names no queries for PostgreSQL")])
    return list(dict.fromkeys(paths))


def _named(folder: Path, queries: str | Sequence[str]) -> Iterator[Path]:
    """The paths of one entry; ``queries/*.sql`` is the folder, and other patterns are what they match now."""
    for path in [queries] if isinstance(queries, str) else queries:
        directory, name = os.path.split(path)
        if glob.has_magic(path) and (name != _ANY_SQL or glob.has_magic(directory)):
            # `Path.glob` takes no absolute pattern, and follows `**` as a shell does only from 3.13 on.
            matching = glob.glob(path, root_dir=folder, recursive=True)  # noqa: PTH207
            yield from (folder / found for found in sorted(matching))
        else:
            yield folder / (directory if name == _ANY_SQL else path)


def _of_folder(folder: Path) -> list[Path]:
    """The largest folders in which every ``*.sql`` has queries, and single files where others have none."""
    # Imported when needed: PostgreSQL's parser, which is loaded with it, takes a third of a second.
    from gateway.catalogue.files import SourceFile, read_files
    from gateway.catalogue.scanning import has_header

    files, faults = read_files([folder])
    if faults:
        raise FaultsFound(faults)

    def holds(file: SourceFile) -> bool:
        return has_header(file.text)

    chosen = {Path(file.where) for file in files if holds(file)}
    if not chosen:
        raise FaultsFound([Fault(str(folder), 0, "there is no *.sql file with a `-- name:` header below it")])
    others = {parent for file in files if not holds(file) for parent in Path(file.where).parents}
    return sorted({_largest(file, folder, others) for file in chosen})


def _largest(file: Path, top: Path, others: set[Path]) -> Path:
    """The outermost folder of a file, at most ``top``, that is none of ``others``; the file if there is none."""
    largest = file
    for parent in file.parents:
        if parent in others:
            break
        largest = parent
        if parent == top:
            break
    return largest
