"""Options that several commands have."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

from gateway.settings.units import seconds

config_option = click.option(
    "-c",
    "--config",
    type=click.Path(path_type=Path, dir_okay=False),
    metavar="FILE",
    help="Settings file.  [default: gateway.toml, if there is one]",
)

F = TypeVar("F", bound=Callable[..., Any])


class Duration(click.ParamType[float]):
    """Text such as ``30s``, as seconds."""

    name = "duration"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """Read the text, or end the command with what is wrong with it."""
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
