"""What dead processes leave behind in the runtime directory."""

import os
from pathlib import Path

from gateway.node.files import remove_left_behind
from gateway.node.processes import my_start

NOBODY = 2**22 + 1
"""More than any pid can be."""


def test_drafts_and_answers_of_dead_processes_are_removed_and_nothing_else(tmp_path: Path) -> None:
    mine = {f"metrics-0.{os.getpid()}.draft", f"answer-{os.getpid()}-{my_start()}", "metrics-0", "board-1f", "question"}
    left = {
        *(f"metrics-1.{NOBODY}.draft", f"events-master.{NOBODY}.draft", f"answer-{NOBODY}-7.{NOBODY}.draft"),
        *(f"answer-{NOBODY}-7", f"answer-{os.getpid()}-{my_start() + 1}"),
    }
    for name in mine | left:
        (tmp_path / name).touch()
    remove_left_behind(tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == mine


def test_a_directory_that_is_gone_is_no_fault(tmp_path: Path) -> None:
    remove_left_behind(tmp_path / "gone")
