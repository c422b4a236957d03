"""Sources to :class:`Settings`: merge, convert, fill in defaults, and name every fault at once."""

import os
from collections.abc import Mapping
from difflib import get_close_matches
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from gateway.faults import Fault, FaultsFound
from gateway.settings.checking import faults_between
from gateway.settings.converting import converted
from gateway.settings.keys import keys_of
from gateway.settings.model import (
    NAMED_SECTIONS,
    SECTIONS,
    CatalogueSettings,
    EndpointSettings,
    GroupSettings,
    Settings,
)
from gateway.settings.sources import (
    Given,
    KeyPath,
    Reading,
    Source,
    read_environment,
    read_file,
    read_overrides,
)

DEFAULT_FILE = "gateway.toml"
SECRET_FILE_LIMIT = 65_536
NAME = "a name is a letter or _, then letters, digits, _ or -, at most 64 in all"

_ENDPOINT_KEYS = keys_of(EndpointSettings)

StructT = TypeVar("StructT", bound=msgspec.Struct)


class Examination(msgspec.Struct, frozen=True):
    """What was found in the sources."""

    settings: Settings | None
    """With faulty values replaced by their defaults, so that a caller can look for more faults further on;
    None if the file could not be read at all."""
    faults: tuple[Fault, ...]


def load_settings(
    path: Path | None = None, environ: Mapping[str, str] | None = None, overrides: Mapping[str, Any] | None = None
) -> Settings:
    """Load the settings from a file, the environment and the command line, the later beating the earlier.

    Without ``path`` it is ``gateway.toml`` in the current folder, if there is one; without ``environ`` the process's
    own. ``overrides`` are dotted keys (``{"server.workers": 4}``) whose faults name ``--workers``.
    Raises FaultsFound with every fault.
    """
    found = examine(path, environ, overrides)
    if found.faults or found.settings is None:
        raise FaultsFound(found.faults)
    return found.settings


def examine(
    path: Path | None = None,
    environ: Mapping[str, str] | None = None,
    overrides: Mapping[str, Any] | None = None,
    *,
    processors: int | None = None,
    with_secrets: bool = True,
) -> Examination:
    """Do what :func:`load_settings` does, but return the faults, and the settings as far as they are valid.

    Without ``with_secrets`` no file of a secret is read: they are not there where a project is checked before it is
    deployed.
    """
    environ = os.environ if environ is None else environ
    if path is None and Path(DEFAULT_FILE).exists():
        path = Path(DEFAULT_FILE)
    file = read_file(path) if path else Reading([], {}, [])
    if not file.is_readable:
        return Examination(None, tuple(file.faults))
    environment = read_environment(environ, file.names)
    readings = [file, environment, read_overrides(overrides or {})]
    loading = _Loading(readings, environ, file=str(path or DEFAULT_FILE), with_secrets=with_secrets)
    settings = loading.settings(processors or len(os.sched_getaffinity(0)))
    return Examination(settings, tuple(sorted(loading.faults, key=lambda fault: (fault.where, fault.line))))


def inherits_sockets(environ: Mapping[str, str] | None = None) -> bool:
    """Whether systemd passed this process its listening sockets (sd_listen_fds(3)), so that it binds none itself."""
    environ = os.environ if environ is None else environ
    return environ.get("LISTEN_PID") == str(os.getpid()) and environ.get("LISTEN_FDS", "0") != "0"


class _Loading:
    """One pass over everything that was given; collects faults as it goes."""

    def __init__(self, readings: list[Reading], environ: Mapping[str, str], *, file: str, with_secrets: bool) -> None:
        self._with_secrets = with_secrets
        self.faults = [fault for reading in readings for fault in reading.faults]
        self._names: dict[KeyPath, Source] = {}
        for name, source in (item for reading in readings for item in reading.names.items()):
            self._names.setdefault(name, source)
        self._given: dict[KeyPath, Given] = {}
        self._file = Source(file)
        for given in (value for reading in readings for value in reading.values):
            self._merge(given)
        self._merge_database_url(environ)

    def settings(self, processors: int) -> Settings:
        """Return the settings as a whole; what is wrong with them is added to ``faults``."""
        defaults = {"catalogue": {"paths": self._default_paths()}}
        plain: dict[str, Any] = {
            name: self._section((name,), struct, **defaults.get(name, {})) for name, struct in SECTIONS.items()
        }
        named: dict[str, Any] = {name: self._named(name, struct) for name, struct in NAMED_SECTIONS.items()}
        named["endpoints"] = {name: self._unlocked(name, endpoint) for name, endpoint in named["endpoints"].items()}
        named["groups"] = _groups(named["groups"], tuple(named["endpoints"]))
        named["sources"] = {name: endpoint for name, endpoint in named["endpoints"].items() if endpoint.discover}
        settings = _with_workers(Settings(**plain, **named), processors)
        self.faults.extend(faults_between(settings, self._source_of))
        return settings

    def _default_paths(self) -> tuple[str, ...]:
        """Join the default to the folder of the file, as if it were written there: ``init DIR`` leaves it out."""
        folder = Path(self._file.where).parent
        return tuple(str(folder / path) for path in CatalogueSettings().paths)

    def _source_of(self, *path: str) -> Source:
        """Tell where a key was written; for a key that was not, where its table was, else the file."""
        given = self._given.get(path)
        return given.source if given else self._names.get(path[:2], self._file)

    def _merge(self, given: Given) -> None:
        """Replace the value that a lower source gave, and that of its other form (``x``, ``x_file``)."""
        twin = self._twin(given.path)
        other = self._given.get(twin) if twin else None
        if other and other.source.rank == given.source.rank:
            self.faults.append(given.source.fault(f"{given.path[-1]} and {other.path[-1]} exclude each other"))
        elif other:
            del self._given[other.path]
        self._given[given.path] = given

    def _twin(self, path: KeyPath) -> KeyPath | None:
        if path[0] != "endpoints":
            return None
        *table, key = path
        name = key.removesuffix("_file")
        if (declared := _ENDPOINT_KEYS.get(name)) is None or declared.kind != "secret":
            return None
        return (*table, name if key != name else f"{name}_file")

    def _merge_database_url(self, environ: Mapping[str, str]) -> None:
        """``DATABASE_URL`` is the dsn of ``primary`` where nothing else gives one and no other endpoint is named.

        A variable so common may belong to another program: it never adds a server to those that were configured.
        """
        primary = ("endpoints", "primary")
        endpoints = {name for name in self._names if name[0] == "endpoints"}
        if endpoints - {primary} or {(*primary, "dsn"), (*primary, "dsn_file")} & self._given.keys():
            return
        for variable, key in (("DATABASE_URL", "dsn"), ("DATABASE_URL_FILE", "dsn_file")):
            if environ.get(variable):
                source = Source(f"environment {variable}", rank=2, is_text=True)
                self._names.setdefault(primary, source)
                self._merge(Given((*primary, key), environ[variable], source))

    def _section(self, table: KeyPath, struct: type[StructT], **defaults: Any) -> StructT:
        """Fill the struct of a table; a value that cannot be used is a fault and leaves the default."""
        keys = keys_of(struct)
        values = dict(defaults)
        for path, given in self._given.items():
            if path[:-1] != table:
                continue
            key = path[-1]
            if key not in keys:
                close = get_close_matches(key, keys, 1)
                hint = f'; did you mean "{close[0]}"?' if close else f" (there are {', '.join(keys)})"
                self.faults.append(given.source.fault(f"there is no setting {'.'.join(path)}{hint}"))
                continue
            try:
                values[key] = converted(given, keys[key])
            except ValueError as error:
                self.faults.append(given.source.fault(f"{'.'.join(path)}: {error}"))
        return struct(**values)

    def _named(self, section: str, struct: type[StructT]) -> dict[str, StructT]:
        """Fill every table ``[section.NAME]``, in the order they were written."""
        tables = {}
        for path, source in self._names.items():
            if path[0] == section:
                if not (path[1].replace("-", "_").isidentifier() and path[1].isascii() and len(path[1]) <= 64):
                    self.faults.append(source.fault(f"{'.'.join(path)}: {NAME}"))
                tables[path[1]] = self._section(path, struct, **self._defaults(path))
        return tables

    def _defaults(self, path: KeyPath) -> dict[str, Any]:
        given = self._given.get((*path, "access"))
        return GroupSettings.defaults_of(path[1], given and given.value) if path[0] == "groups" else {}

    def _unlocked(self, name: str, endpoint: EndpointSettings) -> EndpointSettings:
        """Put the content of its ``dsn_file`` in the place of the dsn.

        A password's file is only looked at: it is read for each connection, so nothing else needs to hold its content.
        """
        read = {}
        for key in ("dsn", "password"):
            if self._with_secrets and (file := getattr(endpoint, f"{key}_file")):
                try:
                    read[key] = _secret(Path(file))
                except ValueError as error:
                    path = ("endpoints", name, f"{key}_file")
                    self.faults.append(self._source_of(*path).fault(f"{'.'.join(path)}: {error}"))
        return msgspec.structs.replace(endpoint, dsn=read.get("dsn", endpoint.dsn))


def _groups(groups: dict[str, GroupSettings], endpoints: tuple[str, ...]) -> dict[str, GroupSettings]:
    """Fill in ``read`` and ``write`` where no group is named, and all endpoints where a group names none."""
    groups = groups or {name: GroupSettings(**GroupSettings.defaults_of(name)) for name in ("read", "write")}
    return {
        name: group if group.endpoints else msgspec.structs.replace(group, endpoints=endpoints)
        for name, group in groups.items()
    }


def _secret(file: Path) -> str:
    """Read a secret file, without the newline at its end; raises ValueError with a sentence."""
    try:
        with file.open("rb") as stream:
            content = stream.read(SECRET_FILE_LIMIT + 1)
        if len(content) > SECRET_FILE_LIMIT:
            raise ValueError(f"{file} is too long for a secret")
        text = content.decode("utf-8")
    except OSError as error:
        raise ValueError(f"{file} cannot be read: {error.strerror}") from None
    except UnicodeDecodeError:
        raise ValueError(f"{file} is not UTF-8 text") from None
    if not (secret := text.removesuffix("\n").removesuffix("\r")):
        raise ValueError(f"{file} is empty")
    return secret


def _with_workers(settings: Settings, processors: int) -> Settings:
    """Make ``workers = 0`` a number: one a processor, but every worker has a connection of every group."""
    if settings.server.workers:
        return settings
    workers = min([processors, *(group.size for group in settings.groups.values())])
    return msgspec.structs.replace(settings, server=msgspec.structs.replace(settings.server, workers=workers))
