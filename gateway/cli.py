"""The command ``gateway``: reads what the user wrote, says what is wrong with it, and starts what was asked for."""

import os
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NoReturn, TypeVar
from urllib.parse import quote

import click

from gateway import __version__
from gateway.catalogue.query import Catalogue
from gateway.errors import Fault, FaultsFound
from gateway.settings import DEFAULT_FILE, FIRST_QUERY, Settings, examine, inherits_sockets, settings_template
from gateway.settings.units import seconds

config_option = click.option(
    "-c",
    "--config",
    type=click.Path(path_type=Path, dir_okay=False),
    metavar="FILE",
    help="Settings file.  [default: gateway.toml, if there is one]",
)


F = TypeVar("F", bound=Callable[..., Any])


class _Duration(click.ParamType[float]):
    """Text such as ``30s``, as seconds."""

    name = "duration"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        try:
            return value if isinstance(value, float) else seconds(value)
        except ValueError as error:
            self.fail(str(error), param, ctx)


def of_node(command: F) -> F:
    """Add the options by which a command for a running node finds it."""
    which = click.option(
        "-c",
        "--config",
        type=click.Path(path_type=Path, dir_okay=False),
        metavar="FILE",
        help="The node that was started with this settings file.",
    )
    pid = click.option("--pid", type=click.IntRange(1), metavar="PID", help="The node whose master is this process.")
    return which(pid(command))


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(__version__, prog_name="gateway")
def main() -> None:
    """Named PostgreSQL queries over JSON HTTP, with a connection pool in between.

    \b
    To look around:       gateway demo
    To start your own:    gateway init && gateway check && gateway serve
    """  # noqa: D301 - click must see the control character \b: it keeps the lines below as they are


@main.command()
@config_option
@click.option("--bind", multiple=True, metavar="ADDRESS", help="host:port, [ipv6]:port or unix:/path; may be repeated.")
@click.option("--workers", metavar="N", help="Processes; 0 is one a processor.")
@click.option("--reuse-port", is_flag=True, default=None, help="Share the port with other gateways (SO_REUSEPORT).")
def serve(config: Path | None, bind: tuple[str, ...], workers: str | None, reuse_port: bool | None) -> None:
    """Serve the catalogue.

    Settings and queries are checked first; with any fault nothing is started. Options beat the environment, and
    that beats the file.

    \b
    gateway serve
    gateway serve -c /etc/gateway/gateway.toml --bind 127.0.0.1:9000 --workers 4
    DATABASE_URL=postgresql://me@localhost/shop gateway serve
    """  # noqa: D301 - click must see the control character \b: it keeps the lines below as they are
    given = {"server.bind": bind or None, "server.workers": workers, "server.reuse_port": reuse_port}
    settings, catalogue = _compile(config, given)
    _warn(catalogue)
    from gateway.server import listening
    from gateway.server.process import open_standard_streams

    open_standard_streams()
    server = settings.server
    faults = [] if inherits_sockets() else list(listening.faults_of(server.bind, reuse_port=server.reuse_port))
    if server.admin_bind:
        faults += listening.faults_of([server.admin_bind], key="server.admin_bind")
    if faults:
        _fail(faults)
    _become_server(settings, catalogue, config)


@main.command()
@config_option
@click.option("--offline", is_flag=True, help="Look at files only; ask no server, read no secret.")
def check(config: Path | None, offline: bool) -> None:
    """Check settings and queries, and prepare every query on every server.

    Faults are printed as file:line: message, all of them; then the exit status is 1.

    \b
    gateway check
    gateway check -c /etc/gateway/gateway.toml --offline
    """  # noqa: D301 - click must see the control character \b: it keeps the lines below as they are
    settings, catalogue = _compile(config, {}, with_secrets=not offline)
    _warn(catalogue)
    looked_at = [_count(len(catalogue.queries), "query", "queries")]
    if not offline:
        from gateway.postgres.checking import check as check_on_servers

        if faults := check_on_servers(settings, catalogue, lambda line: click.echo(line, err=True)):
            _fail(faults)
        looked_at.append(_count(len(settings.endpoints), "endpoint", "endpoints"))
    click.secho(f"{', '.join(looked_at)}: no faults", fg="green")


@main.command()
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
        _fail([Fault(str(file), 0, "is there already; nothing was written") for file in existing])
    try:
        for file, text in files.items():
            file.parent.mkdir(parents=True, exist_ok=True)
            with file.open("x", encoding="utf-8") as stream:
                stream.write(text)
            click.echo(f"wrote {file}")
    except OSError as error:
        _fail([Fault(str(error.filename), 0, f"cannot be written: {error.strerror}")])
    where = "" if directory == Path() else f" -c {directory / 'gateway.toml'}"
    click.echo(f"Now write your dsn into {directory / 'gateway.toml'}, then: gateway check{where}")


@main.command("init-db")
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
        _fail(found.faults)
    if faults := install(found.settings, click.echo):
        _fail(faults)


@main.command()
@click.option("--port", type=click.IntRange(0, 65535), default=8080, show_default=True, help="0: any that is free.")
@click.option("--replicas", type=click.IntRange(0, 8), default=2, show_default=True, help="Streaming replicas.")
@click.option("--workers", type=click.IntRange(1, 64), help="Processes.  [default: one a processor]")
def demo(port: int, replicas: int, workers: int | None) -> None:
    """Start PostgreSQL, a primary with replicas, a sample shop and the gateway over it.

    Everything is in a folder of its own that is gone after Ctrl-C.

    \b
    gateway demo
    gateway demo --port 9000 --replicas 3
    """  # noqa: D301 - click must see the control character \b: it keeps the lines below as they are
    from gateway.demo.run import run

    sys.exit(run(port, replicas, workers))


@main.command()
@click.argument("name")
@click.option(
    "--wait",
    type=_Duration(),
    default="30s",
    show_default=True,
    metavar="TIME",
    help="How long its requests may take to end; at most 1h.",
)
@of_node
def drain(name: str, wait: float, config: Path | None, pid: int | None) -> None:
    """Give the PostgreSQL server NAME no new work, and wait until it has none.

    NAME is that of its [endpoints.NAME]. It stays drained until `gateway resume NAME` or the end of the gateway, also
    where its requests take longer than --wait.

    The gateway has to run on this machine, as the same user; where there is more than one, -c or --pid says which.
    Exit status: 0 drained, 3 drained but requests are still at work on it, 1 not done.

    \b
    gateway drain replica1 && ssh replica1 sudo systemctl restart postgresql && gateway resume replica1 --wait 30s
    """  # noqa: D301 - click must see the control character \b: it keeps the lines below as they are
    _post(config, pid, f"endpoints/{quote(name, safe='')}/drain", wait)
    click.echo(f"{name} is drained: no request is at work on it, and none will be")


@main.command()
@click.argument("name")
@click.option(
    "--wait", type=_Duration(), default="0s", metavar="TIME", help="How long to wait until it serves; at most 1h."
)
@of_node
def resume(name: str, wait: float, config: Path | None, pid: int | None) -> None:
    """Let the PostgreSQL server NAME, which was drained, have work again.

    It gets some when the gateway has found it fit; with --wait the command ends then.

    The gateway has to run on this machine, as the same user; where there is more than one, -c or --pid says which.
    Exit status: 0 resumed, 3 resumed but not in the rotation when --wait was over, 1 not done.

    \b
    gateway resume replica1 --wait 30s
    """  # noqa: D301 - click must see the control character \b: it keeps the lines below as they are
    body = _post(config, pid, f"endpoints/{quote(name, safe='')}/resume", wait)
    said = "is in the rotation" if body["state"] == "in_rotation" else "may have work as soon as it is found fit"
    click.echo(f"{name} {said}")


@main.command()
@click.option(
    "--wait", type=_Duration(), default="30s", show_default=True, metavar="TIME", help="How long that may take."
)
@of_node
def learn(wait: float, config: Path | None, pid: int | None) -> None:
    """Look at the database now: learn every query's types again, on all workers.

    The gateway notices migrations by itself, within two seconds. As the last step of a deployment this ends when they
    are known everywhere, and says which queries they broke.

    The gateway has to run on this machine, as the same user; where there is more than one, -c or --pid says which.
    Exit status: 0 all queries can be served, 3 not finished within --wait, 1 a query cannot be served, or not done.

    \b
    gateway learn
    psql -f migration.sql && gateway learn --wait 2m
    """  # noqa: D301 - click must see the control character \b: it keeps the lines below as they are
    body = _post(config, pid, "learn", wait)
    for name in body["faulty"]:
        click.echo(f"{name} cannot be served: see the gateway's log, or gateway check", err=True)
    learnt = _count(body["queries"], "query", "queries")
    click.secho(f"{learnt} learnt, {len(body['faulty'])} cannot be served", fg="red" if body["faulty"] else "green")
    sys.exit(1 if body["faulty"] else 0)


def _post(config: Path | None, pid: int | None, what: str, wait: float) -> dict[str, Any]:
    """Ask the node for what an operator may ask for, or end the command: status 1, or 3 where it goes on there."""
    from gateway.server import control, registry

    try:
        return control.post(registry.find(config, pid), f"/admin/{what}?wait={wait * 1000:.0f}ms", wait=wait)
    except (registry.NodeNotFound, control.NotDone) as error:
        click.secho(str(error), fg="red", err=True)
        sys.exit(3 if isinstance(error, control.NotDoneYet) else 1)


def _compile(
    config: Path | None, overrides: Mapping[str, Any], *, with_secrets: bool = True
) -> tuple[Settings, Catalogue]:
    """Read and compile both, or end the command with every fault of both."""
    # Imported when needed: PostgreSQL's parser takes a third of a second to load.
    from gateway.catalogue.compiling import compile_project

    found = examine(config, overrides=overrides, with_secrets=with_secrets)
    faults = list(found.faults)
    if found.settings is not None:
        try:
            catalogue = compile_project(found.settings)
        except FaultsFound as error:
            faults.extend(error.faults)
    if faults or found.settings is None:
        _fail(faults)
    return found.settings, catalogue


def _become_server(settings: Settings, catalogue: Catalogue, config: Path | None) -> NoReturn:
    """Write the artefact and replace this process, parser and all, by the one that serves it."""
    from gateway.server.artefact import Compiled, write
    from gateway.server.runtime import RuntimeUnusable, open_runtime, remove

    try:
        runtime = open_runtime(settings.server.runtime_dir)
    except RuntimeUnusable as error:
        _fail([Fault("server.runtime_dir", 0, str(error))])
    try:
        write(runtime.path, Compiled.of(settings, catalogue))
        for stream in filter(None, (sys.stdout, sys.stderr)):  # None is one that was closed from the start
            stream.flush()
        owner = "private" if runtime.is_private else "configured"
        file = config or Path(DEFAULT_FILE)
        named = str(file.resolve()) if file.exists() else ""
        arguments = ["-m", "gateway.server", str(runtime.path), str(runtime.lock), owner, named]
        os.execv(sys.executable, [sys.executable, *_path_flags(), *arguments])  # noqa: S606 - our own interpreter
    except OSError as error:
        remove(runtime)
        _fail([Fault(str(runtime.path), 0, f"the server cannot be started: {error.strerror}")])


def _path_flags() -> list[str]:
    """``-P`` keeps the current folder, where a file may be called ``json.py``, out of the server's imports.

    Not where it is in this process's already, by ``python -m gateway``: the package itself may be found through it.
    """
    return [] if Path(sys.argv[0]).name == "__main__.py" else ["-P"]


def _warn(catalogue: Catalogue) -> None:
    for warning in catalogue.warnings:
        click.secho(f"warning: {warning}", fg="yellow", err=True)
    if restricted := sorted(query.name for query in catalogue.queries.values() if query.roles):
        names = ", ".join(restricted[:3]) + (" ..." if len(restricted) > 3 else "")
        verb = "names" if len(restricted) == 1 else "name"
        message = f"{_count(len(restricted), 'query', 'queries')} {verb} a @role ({names})"
        click.secho(f'warning: {message}, but with auth.mode = "none" no role is checked', fg="yellow", err=True)


def _fail(faults: Sequence[Fault]) -> NoReturn:
    """Print every fault and a last line that counts them; end with status 1."""
    for fault in faults:
        click.secho(str(fault), err=True)
    click.secho(_count(len(faults), "fault", "faults"), fg="red", err=True)
    sys.exit(1)


def _count(number: int, one: str, many: str) -> str:
    return f"{number} {one if number == 1 else many}"
