"""``gateway test``: runs the test cases beside the queries on a server, each in a transaction that is rolled back."""

import sys
from collections.abc import Iterator, Sequence
from datetime import date, datetime, time
from pathlib import Path
from time import monotonic
from typing import Any
from xml.etree import ElementTree

import click
import msgspec

from gateway.cli.cases import Case, differences, files_in, read
from gateway.cli.compiled import compile_or_fail
from gateway.cli.options import config_option
from gateway.cli.reporting import count, fail
from gateway.faults import Fault


class Verdict(msgspec.Struct, frozen=True):
    """What became of a case."""

    case: Case
    seconds: float
    failures: tuple[str, ...]


@click.command("test")
@config_option
@click.option("--junit", type=click.Path(path_type=Path, dir_okay=False), metavar="FILE", help="Write a JUnit report.")
@click.argument("paths", nargs=-1, metavar="[PATH]...", type=click.Path(path_type=Path, exists=True))
def test(config: Path | None, junit: Path | None, paths: tuple[Path, ...]) -> None:
    """Run the test cases of *.test.toml files: those below PATH, else all beside the queries.

    A case is a [[test]] table with query, arguments, and what is expected: expect, the answer, of which only the
    members that are named count, or code, that of a problem. caller (name, roles, claims) says who calls. Each case
    runs on the primary in a transaction that is rolled back. Exit status: 0 all as expected, 1 not, or a fault.

    \b
    gateway test
    gateway test queries/orders.test.toml --junit report.xml
    """  # noqa: D301 - click must see the control character \b: it keeps the lines below as they are
    settings, catalogue = compile_or_fail(config, {})
    cases: list[Case] = []
    faults: list[Fault] = []
    for file in files_in(paths or map(Path, settings.catalogue.paths)):
        found, wrong = read(file, catalogue.queries)
        cases += found
        faults += wrong
    if not cases and not faults:
        faults = [Fault("test", 0, "there are no *.test.toml files; see gateway test --help")]
    if faults:
        fail(faults)
    # Imported when needed: the driver takes a while to load.
    from gateway.cli.rehearsing import Stage, StageMissing

    try:
        with Stage(settings, catalogue) as stage:
            verdicts = [_tried(case, stage) for case in cases]
    except StageMissing as error:
        fail([Fault("endpoints", 0, str(error))])
    if junit is not None:
        _write_junit(junit, verdicts)
    failed = sum(bool(verdict.failures) for verdict in verdicts)
    click.secho(f"{count(len(verdicts), 'test', 'tests')}, {failed} failed", fg="red" if failed else "green")
    sys.exit(1 if failed else 0)


def _tried(case: Case, stage: Any) -> Verdict:
    began = monotonic()
    code, body = stage.run(case.query, _json(case.arguments), case.caller)
    failures = tuple(_failures(case, code, body))
    click.echo(f"{click.style('FAILED', fg='red') if failures else click.style('passed', fg='green')} {case.title}")
    for failure in failures:
        click.echo(f"    {case.file}: {failure}")
    return Verdict(case, monotonic() - began, failures)


def _failures(case: Case, code: str | None, body: Any) -> Iterator[str]:
    if code is not None and case.code is None:
        yield f"{code}: {body}"
    elif code is None and case.code is not None:
        yield f"it succeeded, and {case.code} is expected"
    elif code != case.code:
        yield f"{code} instead of {case.code}: {body}"
    elif code is None:
        yield from differences(msgspec.json.decode(_json(case.expect)), body)


def _json(value: Any) -> bytes:
    """JSON of what TOML holds; its dates and times as ISO 8601."""

    def written(value: Any) -> Any:
        if isinstance(value, datetime | date | time):
            return value.isoformat()
        raise TypeError(type(value).__name__)

    return msgspec.json.encode(value, enc_hook=written)


def _write_junit(file: Path, verdicts: Sequence[Verdict]) -> None:
    failed = sum(bool(verdict.failures) for verdict in verdicts)
    suite = ElementTree.Element("testsuite", name="gateway test", tests=str(len(verdicts)), failures=str(failed))
    for verdict in verdicts:
        case = ElementTree.SubElement(
            suite,
            "testcase",
            classname=str(verdict.case.file),
            name=verdict.case.title,
            time=f"{verdict.seconds:.3f}",
        )
        if verdict.failures:
            ElementTree.SubElement(case, "failure", message=verdict.failures[0]).text = "\n".join(verdict.failures)
    try:
        ElementTree.ElementTree(suite).write(file, encoding="utf-8", xml_declaration=True)
    except OSError as error:
        fail([Fault(str(file), 0, f"cannot be written: {error.strerror}")])
