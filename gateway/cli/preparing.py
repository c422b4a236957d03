"""``gateway init`` and ``gateway init-db``: write what a gateway needs before it can serve."""

from pathlib import Path

import click

from gateway.cli.options import config_option
from gateway.cli.reporting import fail
from gateway.errors import Fault
from gateway.settings import FIRST_QUERY, examine, settings_template


@click.command()
@click.argument("directory", type=click.Path(path_type=Path, file_okay=False), default=Path())
def init(directory: Path) -> None:
    """Write a settings file that explains itself, and a first query.

    Nothing is overwritten.

    \b
    gateway init
    gateway init /etc/gateway
    """  # noqa: D301 - click must see the control character \b: it keeps the lines below as they are
    files = {directory / "gateway.toml": settings_template(), directory / "queries" / "hello.sql": FIRST_QUERY}
    if existing := [file for file in files if file.exists() or file.is_symlink()]:
        fail([Fault(str(file), 0, "is there already; nothing was written") for file in existing])
    try:
        for file, text in files.items():
            file.parent.mkdir(parents=True, exist_ok=True)
            with file.open("x", encoding="utf-8") as stream:
                stream.write(text)
            click.echo(f"wrote {file}")
    except OSError as error:
        fail([Fault(str(error.filename), 0, f"cannot be written: {error.strerror}")])
    where = "" if directory == Path() else f" -c {directory / 'gateway.toml'}"
    click.echo(f"Now write your dsn into {directory / 'gateway.toml'}, then: gateway check{where}")


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
    if faults := install(found.settings, click.echo):
        fail(faults)
