"""Which files are read, and under which prefix."""

import os
from pathlib import Path

import pytest

from gateway.catalogue.files import read_files
from gateway.faults import Fault


def write(path: Path, data: bytes = b"x") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    return path


def names(folder: Path) -> list[tuple[str, str]]:
    files, faults = read_files([folder])
    assert faults == []
    return [(str(Path(file.where).relative_to(folder)), file.prefix) for file in files]


def test_files_come_sorted_and_folders_prefix_their_names(tmp_path: Path) -> None:
    for name in ("b.sql", "a.sql", "reports/daily.sql", "reports/old/x.sql", "notes.txt", "reports/README.md"):
        write(tmp_path / name)
    assert names(tmp_path) == [
        ("a.sql", ""),
        ("b.sql", ""),
        ("reports/daily.sql", "reports."),
        ("reports/old/x.sql", "reports.old."),
    ]


def test_hidden_files_and_folders_are_left_out(tmp_path: Path) -> None:
    for name in (".a.sql", ".git/b.sql", "..2026/c.sql", "d.sql"):
        write(tmp_path / name)
    assert names(tmp_path) == [("d.sql", "")]


def test_mounted_configuration_maps_are_read_once(tmp_path: Path) -> None:
    write(tmp_path / "..2026" / "a.sql")
    (tmp_path / "..data").symlink_to("..2026")
    (tmp_path / "a.sql").symlink_to("..data/a.sql")
    assert names(tmp_path) == [("a.sql", "")]


def test_a_path_may_be_a_file_and_may_be_given_twice(tmp_path: Path) -> None:
    path = write(tmp_path / "reports" / "a.sql")
    files, faults = read_files([path, path])
    assert [(file.where, file.prefix) for file in files] == [(str(path), "")]
    assert faults == []


def test_links_that_lead_round_in_circles_do_not_hang(tmp_path: Path) -> None:
    write(tmp_path / "a" / "x.sql")
    write(tmp_path / "b" / "y.sql")
    for here in ("a", "b"):
        for there in ("a", "b", "."):
            (tmp_path / here / f"to_{there.replace('.', 'top')}").symlink_to(tmp_path / there)
    assert names(tmp_path) == [("a/x.sql", "a."), ("b/y.sql", "b.")]


def test_a_linked_folder_is_read_under_the_links_name(tmp_path: Path) -> None:
    write(tmp_path / "elsewhere" / "x.sql")
    (tmp_path / "queries").mkdir()
    (tmp_path / "queries" / "shared").symlink_to(tmp_path / "elsewhere")
    assert names(tmp_path / "queries") == [("shared/x.sql", "shared.")]


def test_a_byte_order_mark_is_gone_and_line_ends_stay(tmp_path: Path) -> None:
    path = write(tmp_path / "a.sql", b"\xef\xbb\xbf-- x\r\n\xef\xbb\xbf")
    files, _ = read_files([path])
    assert files[0].text == "-- x\r\n\ufeff"


def test_everything_that_cannot_be_read_is_told_at_once(tmp_path: Path) -> None:
    latin = write(tmp_path / "latin.sql", b"-- a\n-- \xe9\n")
    (tmp_path / "gone.sql").symlink_to(tmp_path / "nowhere")
    os.mkfifo(tmp_path / "pipe.sql")
    write(tmp_path / "odd folder" / "x.sql")
    good = write(tmp_path / "good.sql")
    files, faults = read_files([tmp_path, tmp_path / "missing"])
    assert str(good) in [file.where for file in files]
    assert set(faults) == {
        Fault(str(tmp_path / "gone.sql"), 0, "cannot be read: No such file or directory"),
        Fault(str(latin), 2, "is not UTF-8: byte 0xe9"),
        Fault(str(tmp_path / "pipe.sql"), 0, "is not a regular file"),
        Fault(str(tmp_path / "odd folder"), 0, "a folder's name here cannot be part of a query's name"),
        Fault(str(tmp_path / "missing"), 0, "cannot be read: No such file or directory"),
    }


def test_a_folder_without_query_files_may_have_any_name(tmp_path: Path) -> None:
    write(tmp_path / "node modules" / "x.js")
    write(tmp_path / "a.sql")
    assert names(tmp_path) == [("a.sql", "")]


@pytest.mark.parametrize("name", [b"caf\xe9.sql", b"new\nline.sql"])
def test_odd_file_names_can_be_printed_and_stored(tmp_path: Path, name: bytes) -> None:
    (tmp_path / os.fsdecode(name)).write_bytes(b"x")
    files, _ = read_files([tmp_path])
    assert files[0].where.encode()
