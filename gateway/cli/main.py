"""The group of all commands, and how each of them ends where the machine does not let it go on."""

import errno
import os
import sys
from contextlib import suppress
from typing import Any

import click

from gateway import __version__
from gateway.cli.asking import call, queries, status
from gateway.cli.checking import check
from gateway.cli.demo import demo
from gateway.cli.describing import openapi
from gateway.cli.keys import key
from gateway.cli.operating import drain, explain, learn, log, reload, requests, resume
from gateway.cli.planning import plan
from gateway.cli.preparing import init, init_db
from gateway.cli.recompiling import recompile
from gateway.cli.serving import serve
from gateway.cli.testing import test


class Commands(click.Group):
    """Commands that end with a sentence, and never with a traceback, where a file or a stream fails them."""

    def main(self, *given: Any, **more: Any) -> Any:
        """Run what the command line says: status 1, and a line that says why, where it cannot be done.

        Ctrl-C is click's own to end.
        """
        try:
            try:
                return super().main(*given, **more)
            finally:
                if sys.stdout is not None:  # it was not closed from the start
                    sys.stdout.flush()
        except OSError as error:
            _keep_silent()
            if error.errno != errno.EPIPE:  # whoever closed a pipe has read enough
                where = "the command cannot go on" if error.filename is None else os.fsdecode(error.filename)
                click.secho(f"{where}: {error.strerror or error}", fg="red", err=True)
            sys.exit(1)


def _keep_silent() -> None:
    """Have nothing fail once more when Python flushes standard output at its end."""
    if sys.stdout is None:
        return
    with open(os.devnull, "wb") as nowhere, suppress(OSError):  # noqa: PTH123 -- no path of a user's
        os.dup2(nowhere.fileno(), sys.stdout.fileno())  # fails where it is none of the system's


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(__version__, prog_name="gateway")
def main() -> None:
    """Named PostgreSQL queries over JSON HTTP, with a connection pool in between.

    \b
    To look around:       gateway demo
    To start your own:    gateway init && gateway check && gateway serve
    """  # noqa: D301 - click must see the control character \b: it keeps the lines below as they are


for command in (serve, check, init, init_db, demo, key, openapi, plan, recompile, test):
    main.add_command(command)
for command in (drain, resume, learn, reload, requests, explain, log):
    main.add_command(command)
for command in (status, queries, call):
    main.add_command(command)
