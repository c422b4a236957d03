"""What ``gateway check`` has found, written for people, programs, and code scanning (SARIF 2.1.0)."""

import sys
from collections.abc import Iterable
from typing import Any, NoReturn

import click
import orjson

from gateway import __version__
from gateway.cli.reporting import count, fail
from gateway.faults import Finding

FORMATS = ("text", "json", "sarif")
RULES = {
    "faulty": "Settings or queries cannot be served.",
    "questionable": "What can be served and is probably not meant.",
    "unreachable": "A server cannot be connected to.",
    "login-refused": "A server refuses the login.",
    "query-broken": "A server does not take a query.",
    "skew": "A query has other types on one server than on another.",
    "breaking-change": "Calls that were right may fail, or be answered otherwise.",
    "compatible-change": "Callers can see a difference, and none of their calls breaks.",
    "no-pg-monitor": "The role may not see the timeline of replicas.",
    "policy-per-row": "A policy is evaluated for each row.",
    "joined-hardly": "Calls of a query are not answered together.",
    "reset": "Sessions are reset after a query.",
    "read-that-writes": "A read calls functions that may write.",
    "duplicate-columns": "Columns of one name.",
    "page-key-not-unique": "Rows of pages may have the same key.",
    "page-reads-all": "Each page of a query reads the rows of the pages before it.",
    "filter-without-index": "A large table is read as a whole to find some of its rows.",
    "sequential-scan": "A large table is read as a whole.",
}
"""Each kind of finding, and what it means."""
_SCHEMA = "https://json.schemastore.org/sarif-2.1.0.json"
_PLURALS = {"query": "queries", "endpoint": "endpoints"}


class Findings:
    """All of one run. As text it is printed as it comes, and faults at the end."""

    def __init__(self, form: str) -> None:
        """``form`` is one of ``FORMATS``."""
        self._form = form
        self.found: list[Finding] = []
        self.notes: list[str] = []
        """What was looked at and learnt on the way."""
        self.looked_at: dict[str, int] = {}

    @property
    def has_errors(self) -> bool:
        """Whether any of them is a fault."""
        return any(each.level == "error" for each in self.found)

    def note(self, text: str, *, is_progress: bool = True) -> None:
        """Take note of what was done, or of what an author may want to know."""
        self.notes.append(text)
        if self._form == "text":
            click.echo(text, err=is_progress)

    def add(self, found: Iterable[Finding]) -> None:
        """Take findings."""
        for each in found:
            self.found.append(each)
            if self._form == "text" and each.level != "error":
                click.secho(str(each), fg="yellow" if each.level == "warning" else None, err=True)

    def end(self) -> NoReturn:
        """Print what has not been printed, and end the command: with status 1 where there is a fault."""
        match self._form:
            case "json":
                _print(_plain(self))
            case "sarif":
                _print(_sarif(self))
            case _:
                self._end_text()
        sys.exit(1 if self.has_errors else 0)

    def _end_text(self) -> None:
        if faults := [each.fault for each in self.found if each.level == "error"]:
            fail(faults)
        looked_at = [count(number, what, _PLURALS[what]) for what, number in self.looked_at.items()]
        click.secho(f"{', '.join(looked_at)}: no faults", fg="green")


def _plain(findings: Findings) -> dict[str, Any]:
    return {
        **{_PLURALS[what]: number for what, number in findings.looked_at.items()},
        "notes": findings.notes,
        "findings": [
            {
                "rule": each.rule,
                "level": each.level,
                "file": each.fault.where or None,
                "line": each.fault.line or None,
                "message": each.fault.message,
            }
            for each in findings.found
        ],
    }


def _sarif(findings: Findings) -> dict[str, Any]:
    rules = sorted({each.rule for each in findings.found})
    return {
        "$schema": _SCHEMA,
        "version": "2.1.0",
        "runs": [
            {
                "tool": {
                    "driver": {
                        "name": "gateway check",
                        "version": __version__,
                        "rules": [{"id": rule, "shortDescription": {"text": RULES[rule]}} for rule in rules],
                    }
                },
                "results": [
                    {
                        "ruleId": each.rule,
                        "level": each.level,
                        "message": {"text": each.fault.message},
                        "locations": [{"physicalLocation": _location(each)}] if each.fault.where else [],
                    }
                    for each in findings.found
                ],
            }
        ],
    }


def _location(finding: Finding) -> dict[str, Any]:
    found: dict[str, Any] = {"artifactLocation": {"uri": finding.fault.where}}
    if finding.fault.line:
        found["region"] = {"startLine": finding.fault.line}
    return found


def _print(value: dict[str, Any]) -> None:
    click.echo(orjson.dumps(value, option=orjson.OPT_INDENT_2))
