"""What commands print of faults, and how they end with them."""

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


def count(number: int, one: str, many: str) -> str:
    """Return ``1 query``, ``2 queries``."""
    return f"{number} {one if number == 1 else many}"
