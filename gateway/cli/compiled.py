"""Settings and queries, read, compiled and checked for a command."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import click

from gateway.auth import checking as identities
from gateway.catalogue.query import Catalogue
from gateway.cli.reporting import count, fail
from gateway.faults import Fault, FaultsFound
from gateway.settings import Settings, examine, with_members
from gateway.settings.discovering import DNS


def compile_both(
    config: Path | None, overrides: Mapping[str, Any], *, with_secrets: bool = True, directory: Path | None = None
) -> tuple[Settings | None, Catalogue | None, list[Fault]]:
    """Read and compile settings and queries; with every fault of both.

    ``directory``: of the running node, whose servers are known. Those of other endpoints with ``discover`` are asked
    for, where there are secrets.
    """
    # Imported when needed: PostgreSQL's parser takes a third of a second to load.
    from gateway.catalogue.compiling import compile_project

    found = examine(config, overrides=overrides, with_secrets=with_secrets)
    faults, catalogue = list(found.faults), None
    if found.settings is not None:
        if with_secrets:
            faults.extend(identities.faults_of(found.settings.auth))
        try:
            catalogue = compile_project(found.settings)
        except FaultsFound as error:
            faults.extend(error.faults)
        faults.extend(_unverified(found.settings))
    settings = found.settings
    if settings is not None and settings.sources and with_secrets and not faults:
        faults.extend(_undiscoverable(settings))
        settings = settings if faults else discovered(settings, directory)
    return settings, catalogue, faults


def compile_or_fail(
    config: Path | None, overrides: Mapping[str, Any], *, with_secrets: bool = True
) -> tuple[Settings, Catalogue]:
    """Read and compile settings and queries, or end the command with every fault of both."""
    settings, catalogue, faults = compile_both(config, overrides, with_secrets=with_secrets)
    if faults or settings is None or catalogue is None:
        fail(faults)
    return settings, catalogue


def warn(settings: Settings, catalogue: Catalogue) -> None:
    """Print what may be served and is probably not meant."""
    for warning in warnings_of(settings, catalogue):
        click.secho(f"warning: {warning}", fg="yellow", err=True)


def warnings_of(settings: Settings, catalogue: Catalogue) -> list[str]:
    """Return what may be served and is probably not meant."""
    warnings = [str(warning) for warning in (*identities.warnings_of(settings.auth), *catalogue.warnings)]
    if not settings.auth.is_on and (
        restricted := sorted(query.name for query in catalogue.queries.values() if query.roles)
    ):
        names = ", ".join(restricted[:3]) + (" ..." if len(restricted) > 3 else "")
        verb = "names" if len(restricted) == 1 else "name"
        message = f"{count(len(restricted), 'query', 'queries')} {verb} a @role ({names})"
        warnings.append(f'{message}, but with auth.mode = "none" no role is checked')
    return warnings


def _unverified(settings: Settings) -> Iterator[Fault]:
    """Name every server off this machine that is not verified; a warning where that is meant."""
    from gateway.postgres.driver import INSECURE, weaknesses

    for name, weakness in weaknesses(settings.endpoints).items():
        if settings.endpoints[name].allow_insecure:
            said = f"endpoints.{name}: {weakness}: others on the way could read passwords and data, or answer"
            click.secho(f"warning: {said} in the server's place", fg="yellow", err=True)
        else:
            yield Fault(f"endpoints.{name}.dsn", 0, f"{weakness} is {INSECURE}")


def _undiscoverable(settings: Settings) -> Iterator[Fault]:
    from gateway.postgres.dsn import looked_up

    for name, source in settings.sources.items():
        if source.discover == (DNS,) and len(looked_up(source.dsn)) != 1:
            message = 'discover = "dns" needs one host name in the dsn, whose addresses are the servers'
            yield Fault(f"endpoints.{name}.discover", 0, message)


def discovered(settings: Settings, directory: Path | None = None) -> Settings:
    """Return the settings with the servers that endpoints stand for; where nobody answers, with the endpoint as it is.

    ``directory``: of the running node, whose servers are known.
    """
    from gateway.node.discovery import recall
    from gateway.node.sources import NotFound, members_of

    members = dict(recall(directory, settings.sources)) if directory else {}
    for name in settings.sources.keys() - members.keys():
        try:
            members[name] = members_of(settings.sources[name])
        except NotFound as error:
            click.secho(f"warning: endpoints.{name}: no server was discovered so far: {error}", fg="yellow", err=True)
    return with_members(settings, members)
