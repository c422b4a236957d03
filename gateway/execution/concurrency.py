"""Runs calls of queries with ``@concurrency`` only while there is room for them; others are refused at once."""

from collections.abc import Callable, Mapping
from contextlib import ExitStack
from typing import Protocol

from gateway.errors import RateLimited
from gateway.execution.call import Answer, AnyCall, TransactionCall

Run = Callable[[AnyCall], Answer]


class Room(Protocol):
    """Counts the calls of one query that run on the node."""

    def enter(self) -> bool:
        """Count one more, if that is not one too many; each success is followed by one ``leave``."""

    def leave(self) -> None:
        """Count one less."""


class Concurrency:
    """Stands in front of whatever runs calls."""

    def __init__(self, rooms: Mapping[str, Room]) -> None:
        """``rooms``: by the name of their query."""
        self._rooms = rooms

    def run(self, call: AnyCall, run: Run) -> Answer:
        """Run the call; raises RateLimited where there is no room, and what ``run`` raises.

        A call takes room once for each query that it runs, from here until its answer is closed or sent.
        """
        queries = call.queries if isinstance(call, TransactionCall) else [call.query]
        names = {query.name for query in queries if query.name in self._rooms}
        if not names:
            return run(call)
        with ExitStack() as stack:
            for name in sorted(names):
                if not self._rooms[name].enter():
                    raise RateLimited(f"as many calls of {name} are running as may at once")
                stack.callback(self._rooms[name].leave)
            answer = run(call)
            if answer.held is not None:
                left = stack.pop_all()
                left.push(answer.held)  # given up first
                answer.held = left
            return answer
