"""``gateway init`` and ``gateway init-db``: write what a gateway needs before it can serve."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click

from gateway.cli.compiled import compile_or_fail, discovered, warn
from gateway.cli.importing import query_paths
from gateway.cli.options import config_option
from gateway.cli.reporting import count, fail
from gateway.faults import Fault, FaultsFound
from gateway.settings import FIRST_QUERY, examine, settings_template


@click.command()
@click.argument("directory", type=click.Path(path_type=Path, file_okay=False), default=Path())
@click.option(
    "--from",
    "source",
    type=click.Path(path_type=Path, exists=True),
    metavar="PATH",
    help="A sqlc.yaml, or a folder of query files: they are used where they are.",
)
def init(directory: Path, source: Path | None) -> None:
    """Write a settings file that explains itself, and a first query.

    With --from there is no first query: the settings name the queries that a project has already, and what a check of
    these files finds is printed. Nothing is overwritten.

    \b
    gateway init
    gateway init /etc/gateway
    gateway init --from sqlc.yaml
    """  # noqa: D301 - click must see the control character \b: it keeps the lines below as they are
    config = directory / "gateway.toml"
    if source is None:
        _write({config: settings_template(), directory / "queries" / "hello.sql": FIRST_QUERY})
    else:
        _write({config: settings_template({"catalogue": _catalogue_over(source, directory)})})
        settings, catalogue = compile_or_fail(config, {}, with_secrets=False)
        warn(settings, catalogue)
        click.echo(f"{count(len(catalogue.queries), 'query', 'queries')} can be served")
    where = "" if directory == Path() else f" -c {config}"
    click.echo(f"Now write your dsn into {config}, then: gateway check{where}")


def _catalogue_over(source: Path, directory: Path) -> dict[str, Any]:
    """The ``[catalogue]`` over a project's files, with paths that count from ``directory``."""
    try:
        paths = query_paths(source)
    except FaultsFound as error:
        fail(error.faults)
    # A project's own tools may read more kinds of entries: those that cannot be served are left out, and told.
    return {"paths": [os.path.relpath(path, directory) for path in paths], "unservable": "skip"}


def _write(files: Mapping[Path, str]) -> None:
    if existing := [file for file in files if file.exists() or file.is_symlink()]:
        fail([Fault(str(file), 0, "is there already; nothing was written") for file in existing])
    for file, text in files.items():
        try:
            file.parent.mkdir(parents=True, exist_ok=True)
            with file.open("x", encoding="utf-8") as stream:
                stream.write(text)
        except OSError as error:
            fail([Fault(str(error.filename or file), 0, f"cannot be written: {error.strerror}")])
        click.echo(f"wrote {file}")


@click.command("init-db")
@config_option
@click.option("--print", "only_print", is_flag=True, help="Print the statements; connect to nothing.")
def init_db(config: Path | None, only_print: bool) -> None:
    """Create the one table that idempotency keys need, on the primary.

    What is there already stays as it is.

    \b
    gateway init-db
    gateway init-db --print | psql shop
    """  # noqa: D301 - click must see the control character \b: it keeps the lines below as they are
    from gateway.postgres.idempotency import DDL
    from gateway.postgres.installing import install

    if only_print:
        click.echo(DDL, nl=False)
        click.echo("-- if another role ran this: GRANT SELECT, INSERT, UPDATE, DELETE ON gateway_idempotency TO ...")
        return
    found = examine(config, overrides={})
    if found.faults or found.settings is None:
        fail(found.faults)
    if faults := install(discovered(found.settings), click.echo):
        fail(faults)
