"""What commands print: faults, with which they end, and plain columns."""

import sys
from collections.abc import Sequence
from typing import NoReturn

import click

from gateway.faults import Fault


def fail(faults: Sequence[Fault]) -> NoReturn:
    """Print every fault and a last line that counts them; end with status 1."""
    for fault in faults:
        click.secho(str(fault), err=True)
    click.secho(count(len(faults), "fault", "faults"), fg="red", err=True)
    sys.exit(1)


def print_columns(rows: Sequence[Sequence[str]]) -> None:
    """Print rows of as many cells each, the first of which are the columns' names."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        click.echo("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())


def count(number: int, one: str, many: str) -> str:
    """Return ``1 query``, ``2 queries``."""
    return f"{number} {one if number == 1 else many}"
