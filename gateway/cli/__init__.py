"""The command ``gateway``: reads what the user wrote, says what is wrong with it, and starts what was asked for."""

from gateway.cli.main import main

__all__ = ["main"]
