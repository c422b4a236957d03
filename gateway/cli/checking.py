"""``gateway check``: says what is wrong with settings and queries before anything serves them."""

from pathlib import Path

import click

from gateway.catalogue.query import Access, Catalogue, Kind
from gateway.cli.compiled import compile_or_fail, warn
from gateway.cli.options import config_option
from gateway.cli.reporting import count, fail


@click.command()
@config_option
@click.option("--offline", is_flag=True, help="Look at files only; ask no server, read no secret.")
def check(config: Path | None, offline: bool) -> None:
    """Check settings and queries, and prepare and plan every query on every server.

    Faults are printed as file:line: message, all of them; then the exit status is 1.

    \b
    gateway check
    gateway check -c /etc/gateway/gateway.toml --offline
    """  # noqa: D301 - click must see the control character \b: it keeps the lines below as they are
    settings, catalogue = compile_or_fail(config, {}, with_secrets=not offline)
    for note in catalogue.notes:
        click.echo(note)
    warn(settings, catalogue)
    _warn_of_single(catalogue)
    looked_at = [count(len(catalogue.queries), "query", "queries")]
    if not offline:
        from gateway.postgres.checking import check as check_on_servers
        from gateway.postgres.driver import Driver, addresses

        driver = Driver(addresses(settings.endpoints), read_only=True, time_zone=settings.server.time_zone)
        found = check_on_servers(settings, catalogue, driver.connect, lambda line: click.echo(line, err=True))
        for each in found:
            if each.level != "error":
                click.echo(str(each), err=True)
        if faults := [each.fault for each in found if each.level == "error"]:
            fail(faults)
        looked_at.append(count(len(settings.endpoints), "endpoint", "endpoints"))
    click.secho(f"{', '.join(looked_at)}: no faults", fg="green")


def _warn_of_single(catalogue: Catalogue) -> None:
    """Name the queries whose calls will hardly be answered together with those of other callers."""
    from gateway.catalogue.selecting import planned_by_arguments

    for query in catalogue.queries.values():
        if query.access is Access.READ and query.kind is not Kind.EXEC and query.join is None:
            for what in planned_by_arguments(query.statement):
                click.echo(
                    f"{query.file}:{query.line}: {query.name}: calls of different callers will hardly be answered by"
                    f" one statement, because of {what}",
                    err=True,
                )
