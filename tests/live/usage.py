"""What a node uses, and how long it takes for a small request."""

import os
import statistics
import time
from pathlib import Path

from tests.live.workers import Node


def memory(node: Node) -> int:
    """Bytes that are the worker's own."""
    (pid,) = node.workers()
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    return sum(int(line.split()[1]) * 1024 for line in lines if line.startswith("Private_"))


def descriptors(node: Node) -> int:
    """Of all workers."""
    return sum(len(os.listdir(f"/proc/{pid}/fd")) for pid in node.workers())  # noqa: PTH208 - names are enough


def latency(node: Node, count: int = 200) -> float:
    """Median seconds of a small request."""
    with node.wire() as wire:
        taken = []
        for _ in range(count):
            began = time.perf_counter()
            assert wire.get("/small").status == 200
            taken.append(time.perf_counter() - began)
        return statistics.median(taken)
