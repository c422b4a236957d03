"""The compiled artefact: what was written is read, whole, by its owner only, or not at all."""

import threading
from pathlib import Path

import pytest

from gateway import __version__
from gateway.catalogue.query import Access, Catalogue, Kind, Parameter, Query, Statement, Text, Verb
from gateway.server.artefact import ArtefactUnusable, Compiled, read, write
from gateway.settings import EndpointSettings, Settings


def compiled(mark: str = "one") -> Compiled:
    query = Query(
        name="hello",
        kind=Kind.ONE,
        access=Access.READ,
        statement=Statement(Verb.SELECT, Text(("SELECT ", ""), (0,)), source=Text(("(\nSELECT ", "\n)"), (0,))),
        timeout=5.0,
        parameters=(Parameter("n", type="numeric", default="1", constraints={"maximum": 10**30, "enum": [1.5, None]}),),
        group="read",
    )
    settings = Settings(endpoints={"primary": EndpointSettings(dsn=f"host=127.0.0.1 dbname={mark}")})
    return Compiled.of(settings, Catalogue(queries={"hello": query}, hash=mark))


def test_what_was_written_is_read(tmp_path: Path) -> None:
    one = compiled()
    file = write(tmp_path, one)
    assert read(tmp_path) == one
    assert one.version == __version__
    assert file.name == f"{one.hash}.artefact"


def test_only_its_owner_can_read_it(tmp_path: Path) -> None:
    assert write(tmp_path, compiled()).stat().st_mode & 0o777 == 0o600


def test_the_same_content_has_the_same_name_and_other_content_another(tmp_path: Path) -> None:
    assert write(tmp_path, compiled()) == write(tmp_path, compiled())
    assert write(tmp_path, compiled()) != write(tmp_path, compiled("two"))


def test_the_one_before_stays_and_older_ones_go(tmp_path: Path) -> None:
    files = [write(tmp_path, compiled(mark)) for mark in ("one", "two", "three")]
    assert {file.name for file in tmp_path.iterdir()} == {"current", files[1].name, files[2].name}
    assert read(tmp_path) == compiled("three")


def test_a_reader_never_sees_half_an_artefact(tmp_path: Path) -> None:
    write(tmp_path, compiled("0"))
    is_done = threading.Event()

    def write_many() -> None:
        for number in range(200):
            write(tmp_path, compiled(str(number)))
        is_done.set()

    writer = threading.Thread(target=write_many)
    writer.start()
    reads = 0
    while not is_done.is_set():
        assert read(tmp_path).catalogue.queries
        reads += 1
    writer.join()
    assert reads > 10


def test_a_folder_without_an_artefact_is_said_to_have_none(tmp_path: Path) -> None:
    with pytest.raises(ArtefactUnusable, match="cannot be read: No such file"):
        read(tmp_path)


@pytest.mark.parametrize("damage", [b"", b"{}", b"\xff\xff", b'{"settings": 3}'])
def test_a_damaged_artefact_is_refused(tmp_path: Path, damage: bytes) -> None:
    write(tmp_path, compiled()).write_bytes(damage)
    with pytest.raises(ArtefactUnusable, match="is damaged"):
        read(tmp_path)


def test_an_artefact_that_was_changed_is_refused(tmp_path: Path) -> None:
    file = write(tmp_path, compiled())
    file.write_bytes(file.read_bytes().replace(b"dbname=one", b"dbname=two"))
    with pytest.raises(ArtefactUnusable, match="its hash does not fit"):
        read(tmp_path)


def test_an_artefact_of_another_version_is_refused(tmp_path: Path) -> None:
    file = write(tmp_path, compiled())
    file.write_bytes(file.read_bytes().replace(f'"version":"{__version__}"'.encode(), b'"version":"9.9.9"'))
    with pytest.raises(ArtefactUnusable, match=r"was compiled by 9\.9\.9"):
        read(tmp_path)


def test_a_failed_write_changes_nothing(tmp_path: Path) -> None:
    one = compiled()
    write(tmp_path, one)
    (tmp_path / f"{compiled('two').hash}.artefact").mkdir()
    with pytest.raises(OSError, match="directory"):
        write(tmp_path, compiled("two"))
    assert read(tmp_path) == one
    assert not list(tmp_path.glob(".artefact-*"))
