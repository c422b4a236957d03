"""Running nodes find each other by files whose locks the kernel releases."""

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from gateway.server.registry import Node, NodeNotFound, find, folders_of, nodes, register, unregister

HOLDER = """
import os, sys
from pathlib import Path
from gateway.server.registry import Node, register
register(Node(sys.argv[2], os.getpid(), "unix:/x"), [Path(sys.argv[1])])
print("registered", flush=True)
sys.stdin.read()
"""


@contextmanager
def running(folder: Path, config: str = "") -> Iterator["subprocess.Popen[str]"]:
    """A process that has an entry."""
    with subprocess.Popen(  # noqa: S603 - our own interpreter
        [sys.executable, "-c", HOLDER, str(folder), config], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "registered\n"
        try:
            yield holder
        finally:
            holder.kill()


def test_a_node_is_found_by_its_settings_by_its_process_or_alone(tmp_path: Path) -> None:
    config = tmp_path / "gateway.toml"
    with running(tmp_path, str(config)) as holder:
        node = Node(str(config), holder.pid, "unix:/x")
        assert find(folders=[tmp_path]) == node
        assert find(config, folders=[tmp_path]) == node
        assert find(pid=holder.pid, folders=[tmp_path]) == node
        with pytest.raises(NodeNotFound, match="no running gateway with settings from"):
            find(tmp_path / "other.toml", folders=[tmp_path])


def test_which_of_several_is_meant_must_be_said(tmp_path: Path) -> None:
    with running(tmp_path) as one, running(tmp_path) as two:
        with pytest.raises(NodeNotFound, match=f"more than one gateway .*{min(one.pid, two.pid)}"):
            find(folders=[tmp_path])
        assert find(pid=two.pid, folders=[tmp_path]).pid == two.pid


def test_the_entry_of_a_killed_node_is_removed_by_whoever_looks(tmp_path: Path) -> None:
    with running(tmp_path):
        assert len(nodes([tmp_path])) == 1
    assert len(list(tmp_path.iterdir())) == 1
    assert nodes([tmp_path]) == []
    assert list(tmp_path.iterdir()) == []


def test_a_node_that_ends_takes_its_entry_with_it(tmp_path: Path) -> None:
    entry = register(Node("", os.getpid(), "unix:/x"), [tmp_path])
    assert entry.file.stat().st_mode & 0o777 == 0o600
    assert len(nodes([tmp_path])) == 1
    unregister(entry)
    assert list(tmp_path.iterdir()) == []


def test_an_entry_goes_where_there_is_room_for_it(tmp_path: Path) -> None:
    entry = register(Node("", os.getpid(), "unix:/x"), [tmp_path / "missing", tmp_path])
    assert entry.file.parent == tmp_path
    unregister(entry)
    with pytest.raises(OSError, match="No such file"):
        register(Node("", os.getpid(), "unix:/x"), [tmp_path / "missing"])


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file away")
def test_an_entry_of_another_user_is_not_believed(tmp_path: Path) -> None:
    with running(tmp_path):
        (file,) = tmp_path.iterdir()
        os.chown(file, 12345, -1)
        assert nodes([tmp_path]) == []
        assert file.exists()


def test_what_is_no_entry_is_passed_over(tmp_path: Path) -> None:
    with running(tmp_path) as holder:
        (file,) = tmp_path.iterdir()
        prefix = file.name.rpartition("-")[0]
        os.mkfifo(tmp_path / f"{prefix}-fifo")
        (tmp_path / f"{prefix}-link").symlink_to(file)
        (tmp_path / f"{prefix}-folder").mkdir()
        assert [node.pid for node in nodes([tmp_path])] == [holder.pid]


def test_the_folder_of_the_login_comes_before_that_of_the_machine(tmp_path: Path) -> None:
    assert next(folders_of({"XDG_RUNTIME_DIR": str(tmp_path)})) == tmp_path
    for useless in ({}, {"XDG_RUNTIME_DIR": ""}, {"XDG_RUNTIME_DIR": "run"}, {"XDG_RUNTIME_DIR": f"{tmp_path}/none"}):
        assert all(str(folder) == "/dev/shm" for folder in folders_of(useless))  # noqa: S108 - compared only
