"""The secret that the workers of a node sign cursors with."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from gateway.node.secret import NAME, signing_secret


def test_all_workers_of_a_node_have_the_same_whoever_comes_first(tmp_path: Path) -> None:
    with ThreadPoolExecutor(8) as pool:
        secrets = set(pool.map(lambda _: signing_secret("", tmp_path), range(16)))
    assert len(secrets) == 1
    assert len(secrets.pop()) == 32
    assert [file.name for file in tmp_path.iterdir()] == [NAME]
    assert (tmp_path / NAME).stat().st_mode & 0o777 == 0o600


def test_one_of_a_file_is_taken_as_it_is_but_for_its_line_end(tmp_path: Path) -> None:
    (tmp_path / "secret").write_bytes(b"a secret of all nodes\n")
    assert signing_secret(str(tmp_path / "secret"), tmp_path) == b"a secret of all nodes"
    assert not (tmp_path / NAME).exists()


def test_where_nothing_is_shared_each_has_its_own() -> None:
    assert signing_secret("", None) != signing_secret("", None)
