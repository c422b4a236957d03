"""The compiled artefact: settings and catalogue, checked, in one file that workers load and nobody parses again.

Written as ``HASH.artefact``; ``current`` is a second name of the one in force (a hard link, replaced atomically), so
a reader finds the old or the new one, never half of either and never none.

It is JSON rather than MessagePack because constraints of query files may hold integers beyond 64 bits.
"""

import hashlib
import os
import tempfile
from pathlib import Path

import msgspec

from gateway import __version__
from gateway.catalogue.query import Catalogue
from gateway.settings import Settings

CURRENT = "current"
SUFFIX = ".artefact"


class ArtefactUnusable(Exception):
    """The folder holds no artefact that this version can serve; the message says why."""


class Origin(msgspec.Struct, frozen=True):
    """What the artefact was compiled from."""

    config: str
    """Path of the settings file, by which the command line finds this node; empty without one."""
    command: tuple[str, ...]
    """Compiles it anew: see ``reloading``."""
    is_watched: bool = False
    """Whether a file that changes is a reason to reload."""


NOWHERE = Origin("", ())


class Compiled(msgspec.Struct, frozen=True):
    """What a node serves."""

    settings: Settings
    catalogue: Catalogue
    version: str
    """Of the gateway that compiled it."""
    hash: str
    """Hex digest over all of the above."""

    @classmethod
    def of(cls, settings: Settings, catalogue: Catalogue) -> "Compiled":
        """Stamp settings and catalogue with this version."""
        return cls(settings, catalogue, __version__, _digest(settings, catalogue, __version__))


def write(directory: Path, compiled: Compiled) -> Path:
    """Write the artefact and make it the current one; returns its file.

    The file is readable by its owner only, since it holds passwords. It and the one before stay, older ones go.
    Raises OSError, and then the current one is what it was.
    """
    file = directory / f"{compiled.hash}{SUFFIX}"
    older = [old for old in directory.glob(f"*{SUFFIX}") if not _is_current(old)]
    _replace(file, msgspec.json.encode(compiled))
    link = directory / f".{CURRENT}-{os.getpid()}"
    link.unlink(missing_ok=True)
    link.hardlink_to(file)
    link.replace(directory / CURRENT)
    for old in older:
        if old != file:
            old.unlink(missing_ok=True)
    return file


def read(directory: Path) -> Compiled:
    """Load the current artefact. Raises ArtefactUnusable, never anything else."""
    try:
        compiled = msgspec.json.decode((directory / CURRENT).read_bytes(), type=Compiled)
    except OSError as error:
        raise ArtefactUnusable(f"{directory / CURRENT} cannot be read: {error.strerror}") from None
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise ArtefactUnusable(f"{directory / CURRENT} is damaged: {error}") from None
    if compiled.version != __version__:
        raise ArtefactUnusable(f"{directory / CURRENT} was compiled by {compiled.version}, this is {__version__}")
    if compiled.hash != _digest(compiled.settings, compiled.catalogue, compiled.version):
        raise ArtefactUnusable(f"{directory / CURRENT} is damaged: its hash does not fit its content")
    return compiled


def _digest(settings: Settings, catalogue: Catalogue, version: str) -> str:
    return hashlib.sha256(msgspec.json.encode((settings, catalogue, version))).hexdigest()[:32]


def _is_current(file: Path) -> bool:
    try:
        return file.samefile(file.parent / CURRENT)
    except OSError:
        return False


def _replace(file: Path, content: bytes) -> None:
    """Write the file under another name, mode 0600, and give it its own when it is whole."""
    handle, name = tempfile.mkstemp(prefix=".artefact-", dir=file.parent)
    try:
        with os.fdopen(handle, "wb") as stream:
            stream.write(content)
        Path(name).replace(file)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise
