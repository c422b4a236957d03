"""``gateway check``: says what is wrong with settings and queries before anything serves them."""

from collections.abc import Iterator, Mapping
from pathlib import Path

import click

from gateway.catalogue import contract
from gateway.catalogue.contract import Locked
from gateway.catalogue.query import Access, Catalogue, Kind
from gateway.cli.compiled import compile_both, warnings_of
from gateway.cli.findings import FORMATS, Findings
from gateway.cli.options import config_option
from gateway.cli.reporting import fail
from gateway.faults import Fault, Finding
from gateway.settings import DEFAULT_FILE

LOCK = "gateway.lock.json"
"""Beside the settings file, where ``--lock`` names no other."""


@click.command()
@config_option
@click.option("--offline", is_flag=True, help="Look at files only; ask no server, read no secret.")
@click.option(
    "--lock",
    type=click.Path(path_type=Path, dir_okay=False),
    metavar="FILE",
    help=f"Compare with what callers relied on so far.  [default: {LOCK} beside the settings, if there is one]",
)
@click.option("--write-lock", is_flag=True, help="Write that file: callers may rely on what there is now.")
@click.option("--format", "form", type=click.Choice(FORMATS), default="text", show_default=True)
def check(config: Path | None, offline: bool, lock: Path | None, write_lock: bool, form: str) -> None:
    """Check settings and queries, and prepare and plan every query on every server.

    With a lock file, every difference that callers can see is told as well, and one that breaks their calls is a
    fault. Faults are printed as file:line: message, all of them. Exit status: 0 none, 1 some.

    \b
    gateway check
    gateway check --write-lock
    gateway check -c /etc/gateway/gateway.toml --format sarif > check.sarif
    gateway check --offline
    """  # noqa: D301 - click must see the control character \b: it keeps the lines below as they are
    if offline and (lock or write_lock):
        fail([Fault("--lock", 0, "what callers rely on is asked from a server; leave out --offline")])
    settings, catalogue, faults = compile_both(config, {}, with_secrets=not offline)
    findings = Findings(form)
    findings.add(Finding("faulty", "error", fault) for fault in faults)
    if settings is None or catalogue is None or faults:
        findings.end()
    for note in catalogue.notes:
        findings.note(note, is_progress=False)
    findings.add(
        Finding("questionable", "warning", Fault("", 0, warning)) for warning in warnings_of(settings, catalogue)
    )
    findings.add(_joined_hardly(catalogue))
    findings.looked_at["query"] = len(catalogue.queries)
    if not offline:
        # Imported when needed: the driver takes a while to load.
        from gateway.postgres.checking import check as check_on_servers
        from gateway.postgres.checking import reading

        checked = check_on_servers(settings, catalogue, reading(settings).connect, findings.note)
        findings.add(checked.findings)
        findings.looked_at["endpoint"] = len(settings.endpoints)
        now = {
            name: contract.locked(query, checked.signatures[name])
            for name, query in catalogue.queries.items()
            if name in checked.signatures
        }
        file = lock or (config or Path(DEFAULT_FILE)).parent / LOCK
        files = {name: (query.file, query.line) for name, query in catalogue.queries.items()}
        if write_lock and not findings.has_errors:
            _write(file, now)
        elif lock is not None or file.exists():
            findings.add(_compared(file, now, files))
    findings.end()


def _joined_hardly(catalogue: Catalogue) -> Iterator[Finding]:
    """Name the queries whose calls will hardly be answered together with those of other callers."""
    from gateway.catalogue.selecting import planned_by_arguments

    for query in catalogue.queries.values():
        if query.access is Access.READ and query.kind is not Kind.EXEC and query.join is None:
            for what in planned_by_arguments(query.statement):
                message = (
                    f"{query.name}: calls of different callers will hardly be answered by one statement,"
                    f" because of {what}"
                )
                yield Finding("joined-hardly", "note", Fault(query.file, query.line, message))


def _compared(file: Path, now: Mapping[str, Locked], files: Mapping[str, tuple[str, int]]) -> Iterator[Finding]:
    try:
        before = contract.read(file.read_bytes()).queries
    except OSError as error:
        yield Finding("faulty", "error", Fault(str(file), 0, f"cannot be read: {error.strerror}"))
        return
    except contract.LockUnusable as error:
        yield Finding("faulty", "error", Fault(str(file), 0, str(error)))
        return
    for change in contract.changes(before, now):
        where, line = files.get(change.query, (str(file), 0))
        said = f"{change.query}: {'breaks callers: ' if change.is_breaking else 'changed: '}{change.message}"
        fault = Fault(where, line, said)
        if change.is_breaking:
            yield Finding("breaking-change", "error", fault)
        else:
            yield Finding("compatible-change", "note", fault)


def _write(file: Path, now: Mapping[str, Locked]) -> None:
    try:
        file.write_bytes(contract.written(now))
    except OSError as error:
        fail([Fault(str(file), 0, f"cannot be written: {error.strerror}")])
    click.echo(f"wrote {file}", err=True)
