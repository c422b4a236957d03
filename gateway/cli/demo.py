"""``gateway demo``."""

import sys

import click


@click.command()
@click.option("--port", type=click.IntRange(0, 65535), default=8080, show_default=True, help="0: any that is free.")
@click.option("--replicas", type=click.IntRange(0, 8), default=2, show_default=True, help="Streaming replicas.")
@click.option("--workers", type=click.IntRange(1, 64), help="Processes.  [default: one a processor]")
@click.option("--auth", is_flag=True, help="Ask callers for API keys, and print some.")
@click.option("--mcp", is_flag=True, help="Offer some queries to agents (Model Context Protocol).")
def demo(port: int, replicas: int, workers: int | None, auth: bool, mcp: bool) -> None:
    """Start PostgreSQL, a primary with replicas, a sample shop and the gateway over it.

    Everything is in a folder of its own that is gone after Ctrl-C.

    \b
    gateway demo
    gateway demo --port 9000 --replicas 3
    gateway demo --auth
    gateway demo --mcp
    """  # noqa: D301 - click must see the control character \b: it keeps the lines below as they are
    from gateway.demo.run import run

    sys.exit(run(port, replicas, workers, auth=auth, mcp=mcp))
