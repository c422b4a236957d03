"""The group of all commands."""

import click

from gateway import __version__
from gateway.cli.asking import call, queries, status
from gateway.cli.checking import check
from gateway.cli.demo import demo
from gateway.cli.describing import openapi
from gateway.cli.keys import key
from gateway.cli.operating import drain, explain, learn, reload, requests, resume
from gateway.cli.planning import plan
from gateway.cli.preparing import init, init_db
from gateway.cli.recompiling import recompile
from gateway.cli.serving import serve
from gateway.cli.testing import test


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(__version__, prog_name="gateway")
def main() -> None:
    """Named PostgreSQL queries over JSON HTTP, with a connection pool in between.

    \b
    To look around:       gateway demo
    To start your own:    gateway init && gateway check && gateway serve
    """  # noqa: D301 - click must see the control character \b: it keeps the lines below as they are


for command in (serve, check, init, init_db, demo, key, openapi, plan, recompile, test):
    main.add_command(command)
for command in (drain, resume, learn, reload, requests, explain):
    main.add_command(command)
for command in (status, queries, call):
    main.add_command(command)
