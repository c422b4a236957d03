"""Options that several commands have."""

from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

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


class Wanted(NamedTuple):
    """Which running node a command is for."""

    config: Path | None
    pid: int | None
    url: str | None


def of_node(command: Callable[..., None]) -> Callable[..., None]:
    """Add the options by which a command for a running node finds it; the command is given a ``Wanted``."""

    @click.option(
        "-c",
        "--config",
        type=click.Path(path_type=Path, dir_okay=False),
        metavar="FILE",
        help="The node that was started with this settings file.",
    )
    @click.option("--pid", type=click.IntRange(1), metavar="PID", help="The node whose master is this process.")
    @click.option(
        "--url",
        envvar="GATEWAY_URL",
        metavar="URL",
        help="The node there, as whoever has the key or token in GATEWAY_KEY; also GATEWAY_URL.",
    )
    @wraps(command)
    def wanting(*given: Any, config: Path | None, pid: int | None, url: str | None, **more: Any) -> None:
        command(*given, node=Wanted(config, pid, url), **more)

    return wanting
