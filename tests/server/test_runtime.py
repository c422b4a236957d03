"""The runtime directory: one node owns it, and what a dead one left is removed."""

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from gateway.server.runtime import (
    FOLDER,
    LOCK,
    Runtime,
    RuntimeUnusable,
    memory_directory,
    open_runtime,
    remove,
    sweep,
)

PREFIX = f"pg-query-gateway-{os.geteuid()}-"
HOLDER = """
import sys
from gateway.server.runtime import open_runtime
open_runtime(sys.argv[1])
print("owned", flush=True)
sys.stdin.read()
"""


def aged(folder: Path) -> Path:
    long_ago = time.time() - 120
    os.utime(folder, (long_ago, long_ago))
    return folder


def test_a_private_folder_is_for_its_owner_only_and_is_removed(tmp_path: Path) -> None:
    mine = open_runtime(memory=tmp_path)
    assert mine.path.parent == tmp_path
    assert mine.path.stat().st_mode & 0o777 == 0o700
    assert (mine.path / LOCK).read_text() == f"{os.getpid()}\n"
    remove(mine)
    assert not mine.path.exists()
    os.close(mine.lock)


def test_a_configured_folder_is_made_and_stays(tmp_path: Path) -> None:
    mine = open_runtime(str(tmp_path / "run" / "gateway"))
    assert not mine.is_private
    assert mine.path == tmp_path / "run" / "gateway" / FOLDER
    assert mine.path.stat().st_mode & 0o777 == 0o700
    remove(mine)
    assert mine.path.is_dir()
    os.close(mine.lock)


def test_a_second_node_is_refused_until_the_first_is_gone(tmp_path: Path) -> None:
    first = open_runtime(str(tmp_path))
    with pytest.raises(RuntimeUnusable, match=rf"is in use by another gateway \(process {os.getpid()}\)"):
        open_runtime(str(tmp_path))
    os.close(first.lock)
    os.close(open_runtime(str(tmp_path)).lock)


def test_a_killed_node_frees_its_folder(tmp_path: Path) -> None:
    with subprocess.Popen(  # noqa: S603 - our own interpreter
        [sys.executable, "-c", HOLDER, str(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "owned\n"
        with pytest.raises(RuntimeUnusable, match=str(holder.pid)):
            open_runtime(str(tmp_path))
        holder.kill()
    os.close(open_runtime(str(tmp_path)).lock)


def test_the_lock_survives_an_exec(tmp_path: Path) -> None:
    mine = open_runtime(str(tmp_path))
    assert os.get_inheritable(mine.lock)
    os.close(mine.lock)


def test_folders_of_dead_nodes_are_swept(tmp_path: Path) -> None:
    dead = tmp_path / f"{PREFIX}dead"
    dead.mkdir()
    (dead / LOCK).touch()
    (dead / "old.artefact").touch()
    empty = tmp_path / f"{PREFIX}empty"
    empty.mkdir()
    aged(dead)
    aged(empty)
    mine = open_runtime(memory=tmp_path)
    assert list(tmp_path.iterdir()) == [mine.path]
    os.close(mine.lock)


def test_a_folder_that_no_gateway_made_is_not_swept(tmp_path: Path) -> None:
    foreign = tmp_path / f"{PREFIX}papers"
    foreign.mkdir()
    (foreign / "thesis").touch()
    aged(foreign)
    sweep(tmp_path)
    assert (foreign / "thesis").exists()


def test_folders_that_live_are_young_or_belong_to_others_are_not_swept(tmp_path: Path) -> None:
    living = open_runtime(memory=tmp_path)
    aged(living.path)
    young = tmp_path / f"{PREFIX}young"
    young.mkdir()
    foreign = tmp_path / "pg-query-gateway-99999-x"
    foreign.mkdir()
    aged(foreign)
    link = tmp_path / f"{PREFIX}link"
    link.symlink_to(foreign)
    sweep(tmp_path)
    assert {living.path, young, foreign, link} == set(tmp_path.iterdir())
    os.close(living.lock)


@pytest.mark.parametrize("mode", [0o770, 0o777, 0o702])
def test_a_folder_that_others_can_write_to_is_refused(tmp_path: Path, mode: int) -> None:
    tmp_path.chmod(mode)
    with pytest.raises(RuntimeUnusable, match="can be written to by"):
        open_runtime(str(tmp_path))
    below = tmp_path / "below"
    below.mkdir(mode=0o700)
    if mode & 0o002:
        with pytest.raises(RuntimeUnusable, match=f"^{tmp_path} can be written to by everybody"):
            open_runtime(str(below))


def test_a_sticky_folder_that_all_can_write_to_serves(tmp_path: Path) -> None:
    tmp_path.chmod(0o1777)
    runtime = open_runtime(str(tmp_path))
    assert runtime.path == tmp_path / FOLDER
    os.close(runtime.lock)


@pytest.mark.parametrize("what", ["link", "file", "foreign", "open"])
def test_what_stands_in_the_place_of_the_nodes_folder_is_refused_and_left_alone(tmp_path: Path, what: str) -> None:
    elsewhere, folder = tmp_path / "elsewhere", tmp_path / "run" / FOLDER
    elsewhere.mkdir()
    folder.parent.mkdir()
    match what:
        case "link":
            folder.symlink_to(elsewhere)
        case "file":
            folder.touch()
        case "foreign":
            folder.mkdir()
            os.chown(folder, 12345, -1) if os.geteuid() == 0 else (folder / "papers").touch()
        case "open":
            folder.mkdir()
            folder.chmod(0o777)
    (elsewhere / "places-mine").touch()
    with pytest.raises(RuntimeUnusable):
        open_runtime(str(folder.parent))
    assert list(elsewhere.iterdir()) == [elsewhere / "places-mine"]


@pytest.mark.parametrize("name", ["worker-diary", "board-game.txt", "places-to-see", "prober-x", "signatures-of-all"])
def test_files_of_others_in_a_configured_directory_stay(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_text("theirs")
    os.close(open_runtime(str(tmp_path)).lock)
    assert (tmp_path / name).read_text() == "theirs"
    with pytest.raises(RuntimeUnusable, match="no gateway made it"):
        own_folder_with(tmp_path / "other", name)


def own_folder_with(directory: Path, name: str) -> None:
    """A folder of ours by its name, with a file in it and no mark."""
    (directory / FOLDER).mkdir(parents=True)
    (directory / FOLDER / name).touch()
    open_runtime(str(directory))


def test_a_folder_that_cannot_be_made_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(RuntimeUnusable, match=r"File exists|Not a directory"):
        open_runtime(str(tmp_path / "file"))
    with pytest.raises(RuntimeUnusable, match="Not a directory"):
        open_runtime(str(tmp_path / "file" / "below"))


def test_a_lock_that_is_a_link_is_refused(tmp_path: Path) -> None:
    (tmp_path / "target").touch()
    (tmp_path / FOLDER).mkdir(mode=0o700)
    (tmp_path / FOLDER / LOCK).symlink_to(tmp_path / "target")
    with pytest.raises(RuntimeUnusable):
        open_runtime(str(tmp_path))


def test_without_memory_backed_storage_the_temporary_directory_serves(tmp_path: Path) -> None:
    assert memory_directory(tmp_path) == tmp_path
    assert memory_directory(tmp_path / "nowhere") is None
    mine = open_runtime(memory=tmp_path / "nowhere")
    assert mine.path.is_dir()
    remove(mine)
    os.close(mine.lock)


def test_a_configured_runtime_is_never_removed(tmp_path: Path) -> None:
    remove(Runtime(tmp_path, 0, is_private=False))
    assert tmp_path.exists()


@pytest.mark.parametrize("learnt", ["learnt-0f", "board-0f", "elected-prober-0f-0"])
def test_a_new_node_forgets_what_an_earlier_one_learnt_of_the_servers(tmp_path: Path, learnt: str) -> None:
    runtime = open_runtime(str(tmp_path))
    (runtime.path / learnt).write_bytes(b"old")
    (runtime.path / "current").write_bytes(b"kept")
    os.close(runtime.lock)
    runtime = open_runtime(str(tmp_path))
    assert not (runtime.path / learnt).exists()
    assert (runtime.path / "current").exists()
    os.close(runtime.lock)
