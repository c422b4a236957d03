"""A record in shared memory: what is read is what was written, or what was written before."""

import mmap

import pytest

from gateway.node.records import Record

SIZE = 4096
HEAD = 16


def record(memory: mmap.mmap) -> Record:
    return Record(memory, 0, SIZE)


def test_a_record_that_was_never_written_is_empty() -> None:
    fresh = record(mmap.mmap(-1, SIZE))
    assert (fresh.read(), fresh.sequence) == (b"", 0)


def test_every_reader_sees_what_was_written_last() -> None:
    memory = mmap.mmap(-1, SIZE)
    writer, reader = record(memory), record(memory)
    for number in range(1, 6):
        writer.write(b"%d" % number)
        assert (reader.read(), reader.sequence) == (b"%d" % number, number)
    assert record(memory).read() == b"5"


@pytest.mark.parametrize("torn", [range(HEAD), range(HEAD, HEAD + 5), [0], [HEAD + 4]])
def test_a_write_that_was_cut_off_leaves_what_was_there_before(torn: "range | list[int]") -> None:
    memory = mmap.mmap(-1, SIZE)
    writer, reader = record(memory), record(memory)
    writer.write(b"first")
    writer.write(b"other")
    before = memory[:]
    writer.write(b"third")  # into the slot of the first
    for index in torn:
        memory[SIZE // 2 + index] = before[SIZE // 2 + index] ^ 0x55
    assert reader.read() == b"other"
    fresh = record(memory)
    fresh.write(b"fourth")
    assert (reader.read(), fresh.read()) == (b"fourth", b"fourth")


def test_a_reader_that_came_in_the_middle_of_a_write_sees_its_end() -> None:
    memory = mmap.mmap(-1, SIZE)
    writer, reader = record(memory), record(memory)
    writer.write(b"first")
    writer.write(b"second")
    end = memory[:]
    memory[HEAD] ^= 0xFF  # the head is there, the content not all of it
    assert reader.read() == b"first"
    memory[:] = end
    assert reader.read() == b"second"


def test_what_is_too_long_is_refused_and_changes_nothing() -> None:
    memory = mmap.mmap(-1, SIZE)
    writer = record(memory)
    writer.write(b"x" * writer.room)
    with pytest.raises(ValueError, match="more than a record's"):
        writer.write(b"x" * (writer.room + 1))
    assert record(memory).read() == b"x" * writer.room
