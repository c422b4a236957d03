"""``gateway openapi``: the typed document of the catalogue, without a running node."""

from pathlib import Path

import click

from gateway.cli.compiled import compile_or_fail
from gateway.cli.options import config_option
from gateway.cli.reporting import fail


@click.command()
@config_option
@click.option("--output", type=click.Path(dir_okay=False, path_type=Path), help="A file; standard output if left out.")
def openapi(config: Path | None, output: Path | None) -> None:
    """Print the OpenAPI 3.1 document of all queries, for generators of clients.

    The types are asked from the first server that answers. A running gateway gives each caller the document of the
    queries that it may run, at /openapi.json.

    \b
    gateway openapi --output openapi.json
    gateway openapi | npx openapi-typescript --output schema.d.ts
    """  # noqa: D301 - click must see the control character \b: it keeps the lines below as they are
    settings, catalogue = compile_or_fail(config, {})
    # Imported when needed: the driver takes a while to load.
    from gateway.postgres.checking import learn_all, reading
    from gateway.schemas.document import document

    signatures, faults = learn_all(settings, catalogue, reading(settings).connect)
    if faults:
        fail(faults)
    written = document(
        [(query, signatures[name]) for name, query in sorted(catalogue.queries.items())],
        version=catalogue.hash[:12],
        big_as_text=settings.server.bigint == "string",
        knows_callers=settings.auth.is_on,
        turns=lambda: None,
    )
    if output is None:
        click.echo(written)
    else:
        output.write_bytes(written)
