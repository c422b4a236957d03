"""The board: views that all processes of a node share."""

import fcntl
import os
from collections.abc import Mapping
from pathlib import Path
from time import monotonic

import pytest
from msgspec.structs import replace

from gateway.node.board import LOCK, PATIENCE
from gateway.rotation.endpoint import EndpointState, EndpointView, Reason, Role
from gateway.rotation.moves import Drain, Probed, ProbeFailed, Resolved
from gateway.rotation.rotation import Rotation
from tests.node.boards import ENDPOINTS, board, count

GOOD = Probed(role=Role.REPLICA, ping_ms=0.3, lag_ms=4.0, lag_bytes=17, system="7", timeline=2, position=2**60)


def file_of(directory: Path, name: str = "primary") -> Path:
    """The file that holds the view of this endpoint."""
    (found,) = (path for path in directory.glob("board-*") if name.encode() in path.read_bytes())
    return found


def test_what_one_process_learns_is_what_the_others_see(tmp_path: Path) -> None:
    one, other = (Rotation(views=board(tmp_path)) for _ in range(2))
    told: list[int] = []
    other.subscribe(lambda: told.append(1))
    one.apply("replica1", GOOD)
    assert other.view("replica1").state is EndpointState.UNKNOWN
    assert other.has_news
    assert other.poll()
    assert other.views() == one.views()
    assert other.view("replica1").position == 2**60
    assert not other.poll()
    assert told == [1]


def test_changes_by_several_add_up(tmp_path: Path) -> None:
    one, other = Rotation(views=board(tmp_path)), Rotation(views=board(tmp_path))
    one.apply("replica1", Drain())
    other.apply("replica1", Resolved(("10.0.0.1", "::1")))
    one.apply("replica1", ProbeFailed(Reason.REFUSED, "nobody there"))
    other.poll()
    view = other.view("replica1")
    assert (view.drained, view.addresses, view.reason) == (True, ("10.0.0.1", "::1"), Reason.REFUSED)


def test_who_comes_later_knows_everything_at_once(tmp_path: Path) -> None:
    Rotation(views=board(tmp_path)).apply("replica1", GOOD)
    assert Rotation(views=board(tmp_path)).view("replica1").state is EndpointState.IN


def test_a_change_that_changes_nothing_is_no_news(tmp_path: Path) -> None:
    one = board(tmp_path)
    count(one)
    version = one.version
    one.change(lambda views: views["primary"])
    assert one.version == version


def test_a_change_that_fails_leaves_the_board_to_the_others(tmp_path: Path) -> None:
    observed: list[object] = []
    one, other = board(tmp_path), board(tmp_path, observe=observed.append)

    def fail(_: Mapping[str, EndpointView]) -> EndpointView:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        one.change(fail)
    count(other)
    assert not observed  # the lock was free
    assert one.read()["primary"].position == 1


def test_an_endpoint_that_has_moved_is_another_one(tmp_path: Path) -> None:
    one = board(tmp_path)
    count(one)
    moved = board(tmp_path, ENDPOINTS | {"primary": "elsewhere"})
    assert moved.read()["primary"].position is None
    count(one)
    assert one.read()["primary"].position == 2
    assert moved.read()["primary"].position is None


def test_boards_with_different_endpoints_have_the_same_view_of_those_that_both_know(tmp_path: Path) -> None:
    old, new = Rotation(views=board(tmp_path)), Rotation(views=board(tmp_path, {"replica1": "there", "more": "x"}))
    old.apply("replica1", Drain())
    assert old.version == new.version
    assert new.poll()
    assert new.view("replica1").drained
    new.apply("replica1", GOOD)
    old.poll()
    assert old.view("replica1").state is EndpointState.IN


def test_the_files_of_endpoints_that_nobody_has_any_more_are_removed(tmp_path: Path) -> None:
    old = board(tmp_path)
    board(tmp_path, {"replica1": "there", "more": "x"})
    assert len(list(tmp_path.glob("board-*"))) == 4
    count(old)
    assert old.read()["primary"].position == 1
    old.close()
    board(tmp_path, {"replica1": "there"})
    assert file_of(tmp_path, "replica1").exists()
    assert len(list(tmp_path.glob("board-*"))) < 4


def test_the_same_endpoints_after_a_reload_have_the_same_board(tmp_path: Path) -> None:
    count(board(tmp_path))
    assert board(tmp_path).read()["primary"].position == 1


@pytest.mark.parametrize("content", [b"", b"something else", b"gwboard2" * 5000])
def test_a_file_that_is_no_board_is_replaced(tmp_path: Path, content: bytes) -> None:
    count(board(tmp_path))
    file = file_of(tmp_path)
    file.unlink()
    file.write_bytes(content)
    again = board(tmp_path)
    assert again.read()["primary"].position is None
    count(again)
    assert board(tmp_path).read()["primary"].position == 1


def test_a_link_to_somebody_elses_file_is_not_followed(tmp_path: Path) -> None:
    board(tmp_path)
    file = file_of(tmp_path)
    theirs = tmp_path / "theirs"
    theirs.write_bytes(b"theirs")
    file.unlink()
    file.symlink_to(theirs)
    count(board(tmp_path))
    assert theirs.read_bytes() == b"theirs"


def test_a_board_that_was_scribbled_on_gives_blank_views_and_can_be_changed(tmp_path: Path) -> None:
    one = board(tmp_path)
    count(one)
    with file_of(tmp_path).open("r+b") as file:
        file.seek(64)
        file.write(os.urandom(16384))
    again = board(tmp_path)
    assert again.read()["primary"].position is None
    count(again)
    assert one.read()["primary"].position == 1


def test_only_its_owner_may_read_the_board(tmp_path: Path) -> None:
    board(tmp_path)
    assert file_of(tmp_path).stat().st_mode & 0o777 == 0o600


def test_a_long_message_is_cut(tmp_path: Path) -> None:
    one = board(tmp_path)
    one.change(lambda views: replace(views["primary"], message="é" * 100_000))
    assert board(tmp_path).read()["primary"].message == "é" * 1000 + "…"


def test_a_lock_that_is_not_given_back_holds_up_one_change_only(tmp_path: Path) -> None:
    observed: list[object] = []
    one, other = board(tmp_path, observe=observed.append), board(tmp_path)
    with (tmp_path / LOCK).open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        began = monotonic()
        count(one)
        assert monotonic() - began >= PATIENCE
        began = monotonic()
        for _ in range(100):
            count(one)
        assert monotonic() - began < 50 * PATIENCE
        assert other.read()["primary"].position == 101
    count(one)
    assert one.read()["primary"].position == 102
    assert len(observed) == 1


def test_without_a_directory_there_is_no_board(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="No such file"):
        board(tmp_path / "missing")
