import os
import subprocess
import sys

from tests.bench.processes import memory, processor_seconds

_BUSY = "import time\nwhile time.process_time() < 0.2: pass\n"


def test_the_time_of_a_child_counts_while_it_lives_and_when_it_has_ended() -> None:
    before = processor_seconds(os.getpid())
    with subprocess.Popen(  # noqa: S603 -- our own words
        [sys.executable, "-c", f"{_BUSY}print(flush=True)\ninput()"], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as child:
        assert child.stdout is not None
        child.stdout.readline()
        living = processor_seconds(os.getpid())
        child.communicate(b"\n")
    assert living - before >= 0.15
    assert processor_seconds(os.getpid()) > living - 0.01  # a tick of the kernel's: sums of ticks are rounded


def test_memory_is_that_of_the_whole_tree() -> None:
    alone = memory(os.getpid())
    hold = "data = bytearray(32 << 20)\ndata[::4096] = b'x' * len(data[::4096])\nprint(flush=True)\ninput()"
    with subprocess.Popen(  # noqa: S603 -- our own words
        [sys.executable, "-c", hold], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as child:
        assert child.stdout is not None
        child.stdout.readline()
        together = memory(os.getpid())
        child.communicate(b"\n")
    assert together.whole > alone.whole + 30
    assert together.worker > 32
