"""ArrayRecord files give what their own library reads, or an error, but never another record."""

import gzip
import importlib
import os
import shutil
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from array_record.python.array_record_module import ArrayRecordReader, ArrayRecordWriter
from rtj_trainer import data
from rtj_trainer.data import IndexedContext, arrayrecord, indexed_context, store
from rtj_trainer.errors import PermanentError

pytestmark = pytest.mark.unit

BLOCK, SIGNATURE, HEADER = 1 << 16, 64, 40
OPTIONS = [
    "group_size:1",
    "group_size:10",
    "group_size:1,uncompressed",
    "group_size:1,pad_to_block_boundary:true",
    "group_size:7,transpose:true",
]


@pytest.fixture(autouse=True)
def forgetful() -> None:
    """Be a process that has found out nothing yet."""
    store._memory.clear()


def write(path: Path, contents: list[bytes], options: str = "group_size:1") -> Path:
    writer = ArrayRecordWriter(str(path), options)
    for content in contents:
        writer.write(content)
    writer.close()
    return path


def noise(count: int, seed: int = 0) -> list[bytes]:
    """Return records of many lengths, among them empty ones, that cannot be compressed."""
    generator = np.random.default_rng(seed)
    return [generator.bytes(generator.choice([0, 1, 30, 100, 263])) for _ in range(count)]


def everything(source: Any) -> list[bytes]:
    found: list[bytes] = source.read(np.arange(len(source)))[0].tolist()
    return found


@pytest.mark.parametrize("options", OPTIONS)
def test_arrayrecords_gives_what_the_library_does(options: str, tmp_path: Path) -> None:
    # Long enough that block headers interrupt headers of chunks, and one chunk has several.
    contents = [noise(3003), [], [*noise(5), os.urandom(5 * BLOCK)], [b""]]
    paths = [
        write(tmp_path / name, records, options)
        for name, records in zip("bdac", contents, strict=True)
    ]
    source = data.arrayrecords(paths)
    assert everything(source) == [record for records in contents for record in records]
    assert everything(source) == [
        record for path in paths for record in ArrayRecordReader(str(path)).read_all()
    ]
    assert len(data.arrayrecords(f"{tmp_path}/?")) == len(source)


def test_a_header_that_a_block_header_interrupts_anywhere_is_read(tmp_path: Path) -> None:
    # The chunk of the second begins between 60 bytes before the first block's end and 40 after.
    for place in range(BLOCK - 60, BLOCK + 40):
        contents = [os.urandom(place - SIGNATURE - HEADER - 5), b"second", b"third"]
        path = write(tmp_path / f"{place}", contents, "group_size:1,uncompressed")
        assert everything(data.arrayrecords(path)) == contents


def test_a_group_with_more_records_than_bytes_is_passed_by(tmp_path: Path) -> None:
    # A group takes a byte for each record; without more, these would end within a block header.
    for count in (1000, BLOCK - SIGNATURE + 10):
        path = write(tmp_path / "x", [b""] * count + [b"x"] * 9, f"group_size:{count}")
        source = data.arrayrecords(path)
        assert len(source) == count + 9
        assert source.read(np.array([0, count - 1, count]))[0].tolist() == [b"", b"", b"x"]


def test_batches_are_of_its_records_and_threads_may_read_at_once(tmp_path: Path) -> None:
    contents = noise(2000)
    source = data.arrayrecords(
        [write(tmp_path / "a", contents[:999]), write(tmp_path / "b", contents[999:])]
    )
    for batch in data.batches(source, 300):
        assert batch.data.numpy().tolist() == [contents[place] for place in batch.ids.numpy()]
    places = [np.random.default_rng(n).integers(0, 2000, 500) for n in range(16)]
    with ThreadPoolExecutor(8) as pool:
        for asked, (found,) in zip(places, pool.map(source.read, places), strict=True):
            assert found.tolist() == [contents[place] for place in asked]


def test_more_files_than_are_kept_open_are_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(arrayrecord, "_OPEN_READERS", 2)
    source = data.arrayrecords([write(tmp_path / f"{n}", [b"%d" % n]) for n in range(5)])
    for _ in range(2):
        assert everything(source) == [b"%d" % n for n in range(5)]
    opened = [str(file.readlink()) for file in Path("/proc/self/fd").iterdir() if file.exists()]
    assert sum(str(tmp_path) in path for path in opened) == 2


def flipped(content: bytes, place: int) -> bytes:
    return content[:place] + bytes([content[place] ^ 1]) + content[place + 1 :]


GOOD = noise(2000)


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    return write(tmp_path_factory.mktemp("good") / "x", GOOD, "group_size:4").read_bytes()


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (lambda content: b"", "it does not begin as one"),
        (lambda content: b"no ArrayRecord file at all, but text", "it does not begin as one"),
        (lambda content: content[:SIGNATURE], "its chunks do not|cannot be opened"),
        (lambda content: content[:70], "its last chunk should end at byte"),
        (lambda content: content[:BLOCK], "its last chunk should end at byte"),
        (lambda content: content[:-BLOCK], "cannot be opened as an ArrayRecord file"),
        (lambda content: content[:-1], "should end at byte 262144, but the file ends at 262143"),
        (lambda content: content + bytes(BLOCK), "cannot be opened|last chunk should end"),
        (lambda content: flipped(content, SIGNATURE + 25), "its chunks do not hold 2000 records"),
        (
            lambda content: flipped(content, SIGNATURE + 8),
            "its last chunk should end|its chunks do not",
        ),
        (lambda content: flipped(content, len(content) - BLOCK + 90), "cannot be opened"),
    ],
)
def test_a_damaged_file_is_an_error_that_names_it_and_what_to_do(
    damage: Callable[[bytes], bytes], words: str, good: bytes, tmp_path: Path
) -> None:
    path = tmp_path / "x"
    path.write_bytes(damage(good))
    with pytest.raises((ValueError, OSError), match=rf"/x .*({words}).*; write it again"):
        data.arrayrecords(path)


def test_the_number_of_records_of_a_single_group_is_compared(tmp_path: Path) -> None:
    path = write(tmp_path / "x", [b"x"] * 4, "group_size:4")
    path.write_bytes(flipped(path.read_bytes(), SIGNATURE + 25))
    with pytest.raises(ValueError, match="its chunks do not hold 4 records"):
        data.arrayrecords(path)


def test_a_bit_that_is_flipped_anywhere_gives_no_other_record(good: bytes, tmp_path: Path) -> None:
    path = tmp_path / "x"
    path.write_bytes(good)
    contents = data.arrayrecords(path).contents
    header = range(SIGNATURE, SIGNATURE + HEADER)
    anywhere = np.random.default_rng(0).choice(len(good), 40, replace=False).tolist()
    chosen = [*range(0, SIGNATURE, 8), *header, *anywhere]
    silent = 0
    for place in chosen:
        path.write_bytes(flipped(good, place))
        try:
            source = data.arrayrecords(path)
            assert everything(source) == GOOD
            # A header that is not what it was is noticed by the next attempt, too.
            assert place not in header or source.contents != contents
            silent += 1
        except (ValueError, OSError):
            continue
    assert silent < len(chosen) / 2  # in padding, and in what only recovery would read


def test_a_file_that_changes_while_it_is_read_is_an_error(good: bytes, tmp_path: Path) -> None:
    paths = [tmp_path / name for name in "ab"]
    for path in paths:
        path.write_bytes(good)
    source = data.arrayrecords(paths)
    source.read(np.array([0]))
    os.truncate(paths[0], BLOCK)
    assert source.read(np.array([1]))[0].tolist() == [GOOD[1]]
    for place in range(1000, 2000, 10):
        with pytest.raises(OSError, match=r"/a: record|/a was changed while the job runs"):
            source.read(np.array([place]))
    # Not open yet, and another one now.
    write(paths[1], GOOD[::-1], "group_size:4")
    with pytest.raises(OSError, match="/b was changed while the job runs; put the file back"):
        source.read(np.array([2000]))


def test_the_digest_is_of_the_content(tmp_path: Path) -> None:
    first = data.arrayrecords(write(tmp_path / "x", GOOD)).contents
    shutil.copy(tmp_path / "x", tmp_path / "y")
    (tmp_path / "y").replace(tmp_path / "x")
    assert data.arrayrecords(tmp_path / "x").contents == first
    (change,) = [place for place, record in enumerate(GOOD) if len(record) == 263][:1]
    changed = [*GOOD[:change], flipped(GOOD[change], 100), *GOOD[change + 1 :]]
    write(tmp_path / "x", changed)
    assert data.arrayrecords(tmp_path / "x").contents != first
    assert list(first) == [str(tmp_path / "x")]
    assert first[str(tmp_path / "x")].startswith("2000 records, ")


def test_what_was_found_is_kept_on_the_volume(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    path = write(tmp_path / "x", GOOD)
    with indexed_context(IndexedContext(seed=1, store=tmp_path / "indices")):
        for _ in range(2):
            assert everything(data.arrayrecords(path)) == GOOD
            store._memory.clear()
    assert caplog.text.count("looking through") == 1


def test_groups_are_warned_of_and_refused_if_they_are_too_large(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    data.arrayrecords(write(tmp_path / "1", [bytes(100)] * 10, "group_size:1"))
    assert not caplog.records
    path = write(tmp_path / "5", [bytes(100)] * 10, "group_size:5")
    data.arrayrecords(path)
    assert "groups of 5 records; to read one, up to 500 bytes are unpacked" in caplog.text
    store._memory.clear()
    monkeypatch.setattr(arrayrecord, "_LARGEST_GROUP", 499)
    with pytest.raises(ValueError, match=r"/5 has groups of 5 .*write it again with group_size:1"):
        data.arrayrecords(path)
    data.arrayrecords(write(tmp_path / "large", [bytes(500)]))


def test_more_records_than_the_library_finds_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(arrayrecord, "_MOST_RECORDS", 9)
    with pytest.raises(ValueError, match="has 10 records, but 9 can be read; split it"):
        data.arrayrecords(write(tmp_path / "x", [b"x"] * 10))


def test_a_file_that_is_compressed_or_missing_is_named(good: bytes, tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"'.*/none'"):
        data.arrayrecords(tmp_path / "none")
    (tmp_path / "x.gz").write_bytes(gzip.compress(good))
    with pytest.raises(PermanentError, match=r"x\.gz is compressed \(GZIP\).*; unpack it"):
        data.arrayrecords(tmp_path / "x.gz")


def test_the_package_is_imported_by_the_first_use_and_named_if_it_is_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write(tmp_path / "x", [b"x"])
    monkeypatch.setitem(sys.modules, "array_record.python.array_record_module", None)
    importlib.reload(arrayrecord)
    with pytest.raises(ImportError, match=r"needs the package array-record.*; add it to the image"):
        data.arrayrecords(path)
