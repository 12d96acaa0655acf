"""Sources read what is in the files and arrays, and say clearly what they cannot read."""

import csv
import gc
import gzip
import os
import weakref
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf
from rtj_trainer import data
from rtj_trainer.data import IndexedContext, indexed_context, records, store
from rtj_trainer.data.source import Source
from rtj_trainer.errors import PermanentError
from rtj_trainer.pipeline import PipelineFactory
from rtj_trainer.preflight.graph import read_graph
from rtj_trainer.preflight.rules import problems
from rtj_trainer.validation import validation_data

pytestmark = pytest.mark.unit


@pytest.fixture(autouse=True)
def forgetful() -> None:
    """Be a process that has found out nothing yet."""
    store._memory.clear()


@pytest.fixture
def volume(tmp_path: Path) -> Iterator[Path]:
    folder = tmp_path / "volume" / "indices"
    with indexed_context(IndexedContext(seed=1, store=folder)):
        yield folder


def everything(source: Source) -> Any:
    """Return all examples in their order."""
    batches = [batch.data for batch in data.batches(source, 7, shuffle=False)]
    return tf.nest.map_structure(lambda *parts: np.concatenate(parts), *batches)


def write_records(path: Path, contents: list[bytes]) -> Path:
    with tf.io.TFRecordWriter(str(path)) as writer:
        for content in contents:
            writer.write(content)
    return path


def write(path: Path, content: bytes | str) -> Path:
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


RECORDS = [b"", b"a", b"zeros\0\0", bytes(range(256)) * 9, b"last"]


def test_tfrecords_gives_what_tensorflows_own_reader_does(tmp_path: Path) -> None:
    paths = [
        write_records(tmp_path / "b.tfrecord", RECORDS),
        write_records(tmp_path / "a.tfrecord", []),
        write_records(tmp_path / "c.tfrecord", [b"%d" % n for n in range(1000)]),
    ]
    read = everything(data.tfrecords(paths)).tolist()
    assert read == [record.numpy() for record in tf.data.TFRecordDataset(list(map(str, paths)))]
    assert len(data.tfrecords(str(tmp_path / "*.tfrecord"))) == len(read)


def test_a_shuffled_epoch_has_each_record_once_and_the_next_another_order(tmp_path: Path) -> None:
    path = write_records(tmp_path / "x", [b"%d" % n for n in range(50)])
    with indexed_context(IndexedContext(seed=1, stop=10)):
        batches = list(data.batches(data.tfrecords(path), 11, drop_remainder=False))
    ids = np.concatenate([batch.ids for batch in batches])
    texts = np.concatenate([batch.data for batch in batches])
    assert [int(text) for text in texts] == ids.tolist()
    assert sorted(ids[:50]) == sorted(ids[50:]) == list(range(50))
    assert ids[:50].tolist() != ids[50:].tolist()


def flipped(content: bytes, place: int) -> bytes:
    return content[:place] + bytes([content[place] ^ 1]) + content[place + 1 :]


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (lambda content: content[:-1], "ends within the record at byte 17"),
        (lambda content: content[:20], "ends within the record at byte 17"),
        (lambda content: flipped(content, 17), "wrong checksum for the record length at byte 17"),
        (lambda content: flipped(content, 23), "wrong checksum for the record length at byte 17"),
        (lambda content: b"no TFRecord file at all, but text", "or not a TFRecord file"),
    ],
    ids=["cut", "cut-in-a-header", "length-a-little-off", "length-far-off", "text"],
)
def test_a_damaged_tfrecord_file_is_an_error_with_the_place(
    damage: Any, words: str, tmp_path: Path
) -> None:
    path = write_records(tmp_path / "x", [b"a", b"b"])
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(ValueError, match=words):
        data.tfrecords(path)


@pytest.mark.parametrize("make", [data.tfrecords, lambda path: data.csv_rows(path, header=True)])
def test_a_compressed_file_is_refused_with_what_to_do(make: Any, tmp_path: Path) -> None:
    path = write(tmp_path / "x.gz", gzip.compress(b"a,b\n1,2\n"))
    with pytest.raises(PermanentError, match=r"x\.gz is compressed \(GZIP\).*; (unpack|write)"):
        make(path)


def test_a_record_whose_length_looks_like_a_compressed_file_is_read(tmp_path: Path) -> None:
    path = write_records(tmp_path / "x", [bytes(0x8B1F)])
    assert path.read_bytes()[:2] == b"\x1f\x8b"
    assert len(data.tfrecords(path)) == 1


def test_missing_files_are_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"no file fits .*/none-"):
        data.tfrecords(f"{tmp_path}/none-*")
    with pytest.raises(FileNotFoundError, match=r"'.*/none'"):
        data.tfrecords(tmp_path / "none")
    with pytest.raises(FileNotFoundError, match="no files were given"):
        data.tfrecords([])


TABLE = [["1", "plain"], ["2", "a,b"], ["3", 'say "hi"'], ["4", "two\r\nlines\n"], ["5", ""]]


@pytest.mark.parametrize("end", ["\n", "\r\n"])
@pytest.mark.parametrize("chunk", [1, 2, 3, 7, 1 << 24])
def test_csv_rows_are_what_pythons_reader_finds(
    end: str, chunk: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("rtj_trainer.data.csv_file._CHUNK", chunk)
    path = tmp_path / "x.csv"
    with path.open("w", newline="") as file:
        csv.writer(file, lineterminator=end).writerows([["n", "the\ntext"], *TABLE])
    rows = data.csv_rows(path, header=True)
    assert rows.columns == ["n", "the\ntext"]
    numbers, texts = tf.io.decode_csv(everything(rows), [0, ""])
    found = [
        [str(n), text.decode()] for n, text in zip(numbers.numpy(), texts.numpy(), strict=True)
    ]
    assert found == TABLE


def test_csv_files_are_read_one_after_the_other_each_with_its_header(tmp_path: Path) -> None:
    first = write(tmp_path / "1.csv", b"\xef\xbb\xbfa,b\n1,2\n\n3,4")
    second = write(tmp_path / "2.csv", b"a,b\r\n5,6\r\n")
    rows = data.csv_rows([first, second], header=True)
    assert rows.columns == ["a", "b"]
    assert everything(rows).tolist() == [b"1,2", b"3,4", b"5,6"]
    assert everything(data.csv_rows(second, header=False)).tolist() == [b"a,b", b"5,6"]
    other = write(tmp_path / "3.csv", "a,c\n1,2\n")
    with pytest.raises(ValueError, match=r"3.csv has the columns \['a', 'c'\], but"):
        data.csv_rows([first, other], header=True)


def test_a_csv_file_that_cannot_be_cut_into_rows_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="ends within quotes, in the row that begins at byte 4"):
        data.csv_rows(write(tmp_path / "1.csv", 'a,b\n1,"2\n3,4\n'), header=True)
    with pytest.raises(ValueError, match="is in UTF-16"):
        data.csv_rows(write(tmp_path / "2.csv", "a,b\n".encode("utf-16")), header=True)


def test_an_empty_source_is_an_error(tmp_path: Path) -> None:
    rows = data.csv_rows(write(tmp_path / "x.csv", "a,b\n"), header=True)
    with pytest.raises(ValueError, match=r"no examples in .*x\.csv"):
        data.batches(rows, 4)


def test_more_files_than_are_kept_open_are_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(records, "_OPEN_FILES", 2)
    paths = [write(tmp_path / f"{n:03}.csv", f"{n}\n") for n in range(203)]
    rows = data.csv_rows(paths, header=False)
    assert everything(rows).tolist() == [b"%d" % n for n in range(203)]
    assert len(rows.contents) == 68
    assert next(iter(rows.contents)) == f"{paths[0]} … 002.csv"
    write(paths[100], "7\n")
    changed = data.csv_rows(paths, header=False).contents
    assert {name for name in changed if changed[name] != rows.contents[name]} == {
        f"{paths[99]} … 101.csv"
    }


def test_a_file_that_is_cut_while_it_is_read_is_an_error(tmp_path: Path) -> None:
    path = write(tmp_path / "x.csv", "1\n22\n333\n")
    rows = data.csv_rows(path, header=False)
    write(path, "1\n2")
    with pytest.raises(OSError, match="ends within its record at byte 2"):
        rows.read(np.arange(3))


def test_an_index_is_kept_on_the_volume_until_its_file_changes(
    tmp_path: Path, volume: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    path = write(tmp_path / "x.csv", "1\n2\n")
    for count in (1, 1):
        data.csv_rows(path, header=False)
        store._memory.clear()
        assert caplog.text.count("looking through") == count
        assert len(list(volume.iterdir())) == 1
    times = path.stat()
    write(path, "123\n")
    os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))
    assert len(data.csv_rows(path, header=False)) == 1


@pytest.mark.parametrize(
    "damage",
    [lambda content: flipped(content, len(content) - 3), lambda content: content[:40], bytes],
    ids=["flipped", "cut", "empty"],
)
def test_a_damaged_index_is_made_again(damage: Any, tmp_path: Path, volume: Path) -> None:
    path = write(tmp_path / "x.csv", "1\n2\n")
    data.csv_rows(path, header=False)
    (kept,) = volume.iterdir()
    good = kept.read_bytes()
    kept.write_bytes(damage(good) if damage is not bytes else b"")
    write(volume / f".{kept.name}.1.killed", "half of it")
    store._memory.clear()
    assert everything(data.csv_rows(path, header=False)).tolist() == [b"1", b"2"]
    assert [found.read_bytes() for found in volume.iterdir()] == [good]


def test_a_volume_that_cannot_be_written_costs_only_time(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    write(tmp_path / "file", "")
    path = write(tmp_path / "x.csv", "1\n2\n")
    with indexed_context(IndexedContext(seed=1, store=tmp_path / "file" / "indices")):
        assert len(data.csv_rows(path, header=False)) == 2
    assert "cannot be kept for the next attempt" in caplog.text


def test_arrays_of_any_kind_are_rows(tmp_path: Path) -> None:
    np.save(tmp_path / "image.npy", np.arange(24.0).reshape(6, 2, 2))
    texts = np.array(["a", "bc", "", "dé", "e", "f\0"], dtype=object)
    given = {"image": tmp_path / "image.npy", "more": (texts, np.arange(6, dtype=np.uint8))}
    found = everything(data.arrays(given))
    assert np.array_equal(found["image"], np.load(tmp_path / "image.npy"))
    assert found["more"][0].tolist() == [text.encode() for text in texts]
    assert found["more"][1].dtype == np.uint8
    np.savez(tmp_path / "both.npz", x=np.arange(4), y=np.array(["p", "q", "r", "s"]))
    found = everything(data.arrays(str(tmp_path / "both.npz")))
    assert found["x"].tolist() == [0, 1, 2, 3]
    assert found["y"].tolist() == [b"p", b"q", b"r", b"s"]


def test_the_contents_of_arrays_tell_a_change(tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", np.arange(3))
    first = data.arrays({"x": tmp_path / "x.npy", "y": np.arange(3)}).contents
    np.save(tmp_path / "x.npy", np.arange(1, 4))
    second = data.arrays({"x": tmp_path / "x.npy", "y": np.arange(3)}).contents
    assert {name for name in first if first[name] != second[name]} == {f"{tmp_path}/x.npy"}
    assert first["y"].startswith("int64 (3,), ")


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"x": np.arange(3), "y": np.arange(4)}, r"same number of rows, not {'x': 3, 'y': 4}"),
        ({"x": np.float32(1)}, "x has no rows"),
        ({"x": np.array([1, None])}, "x holds Python objects"),
        ({"x": np.zeros(2, "datetime64[s]")}, r"x has dtype datetime64\[s\].*astype\('int64'\)"),
        ({"x": np.zeros(2, [("a", "i4")])}, "x has dtype .*each field"),
    ],
)
def test_arrays_that_are_no_examples_are_an_error(given: Any, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        data.arrays(given)


class Squares:
    """Items of several parts; wrong ones and changing ones where a test wants them."""

    def __init__(self, wrong: Any = None) -> None:
        self.wrong = wrong
        self.reads = 0

    def __len__(self) -> int:
        return 20

    def __getitem__(self, place: int) -> Any:
        self.reads += 1
        if isinstance(self.wrong, str):
            return {"n": np.int64(self.reads), "text": "x"}
        number = np.int64(place * place) if self.wrong is None else self.wrong
        return {"n": number, "text": f"number {place}\0"}


SQUARE = {"n": tf.TensorSpec([], tf.int64), "text": tf.TensorSpec([], tf.string)}


def test_any_object_with_items_is_a_source() -> None:
    found = everything(data.objects(Squares(), SQUARE))
    assert found["n"].tolist() == [n * n for n in range(20)]
    assert found["text"][3] == b"number 3\0"


def test_an_object_whose_items_change_is_refused() -> None:
    with pytest.raises(PermanentError, match="item 0 of Squares was another when it was read"):
        data.objects(Squares("counts"), SQUARE)


@pytest.mark.parametrize(
    ("items", "signature", "error", "words"),
    [
        (iter([1]), SQUARE, TypeError, "list_iterator has not both __len__ and __getitem__"),
        (Squares(1.5), SQUARE, TypeError, "dtype float64, the signature says int64"),
        (Squares([1]), SQUARE, (TypeError, ValueError), "structure"),
        (Squares(np.ones(2, int)), SQUARE, ValueError, r"shape \(2,\), the signature says \(\)"),
        ([1], tf.TensorSpec([None], tf.int64), ValueError, "give every dimension"),
    ],
)
def test_an_object_that_does_not_fit_its_signature_is_an_error(
    items: Any, signature: Any, error: Any, words: str
) -> None:
    with pytest.raises(error, match=words):
        data.objects(items, signature)


def test_a_filter_keeps_what_the_predicate_is_true_for_and_is_evaluated_once(
    volume: Path, caplog: pytest.LogCaptureFixture
) -> None:
    numbers = data.arrays(np.arange(500))
    for limit, count in ((450, 1), (450, 1), (460, 2)):
        kept = data.filtered(numbers, lambda n, limit=limit: n >= limit)
        assert everything(kept).tolist() == list(range(limit, 500))
        assert len(list(volume.iterdir())) == count
        store._memory.clear()


@pytest.mark.parametrize("mix", [False, True])
def test_items_that_are_only_sampled_are_filtered_anew(mix: bool, volume: Path) -> None:
    labels = [1] * 20

    def kept() -> Any:
        items = data.objects(labels, tf.TensorSpec([], tf.int64))
        source = data.mixed([items], [1]) if mix else items
        return data.filtered(source, lambda label: label > 0)

    before = kept()
    assert len(before) == 20
    labels[5] = labels[6] = 0
    assert everything(kept()).tolist() == [1] * 18
    assert kept().contents["filtered"] != before.contents["filtered"]
    assert kept().sampled
    assert not volume.exists()


def test_filters_of_filters_have_contents_of_their_own() -> None:
    numbers = data.arrays(np.arange(12))
    outer = [
        data.filtered(data.filtered(numbers, lambda n, m=m: n % m == 0), lambda n: n > -1)
        for m in (2, 3)
    ]
    assert everything(outer[0]).tolist() == [0, 2, 4, 6, 8, 10]
    assert outer[0].contents["filtered"] != outer[1].contents["filtered"]


def looked_up(n: Any) -> Any:
    with tf.init_scope():
        values = tf.lookup.KeyValueTensorInitializer(tf.range(9, dtype=tf.int64), tf.range(9))
        table = tf.lookup.StaticHashTable(values, 0)
    return table.lookup(n) > 3


@pytest.mark.parametrize(
    ("predicate", "words"),
    [
        (lambda n: tf.random.uniform(tf.shape(n)) > 0.5, "draws random numbers"),
        (lambda n: tf.reshape(tf.numpy_function(lambda n: n > 3, [n], tf.bool), [-1]), "numpy_fun"),
        (looked_up, "uses a lookup table"),
    ],
)
def test_a_predicate_that_is_not_pure_is_refused(predicate: Any, words: str) -> None:
    with pytest.raises(PermanentError, match=words):
        data.filtered(data.arrays(np.arange(9)), predicate)


def test_a_predicate_that_gives_no_booleans_is_an_error() -> None:
    with pytest.raises(TypeError, match="it must give one tensor of n booleans"):
        data.filtered(data.arrays(np.arange(9)), lambda n: n)


def test_a_mixture_keeps_its_shares_everywhere_and_gives_each_source_completely() -> None:
    sources = [
        data.arrays(np.arange(start, start + n)) for start, n in ((0, 300), (1000, 90), (2000, 7))
    ]
    mixture = data.mixed(sources, [0.6, 0.3, 0.1])
    numbers = everything(mixture)
    assert len(numbers) == len(mixture)
    for source, share in enumerate((0.6, 0.3, 0.1)):
        mine = numbers[numbers // 1000 == source]
        expected = np.arange(len(mine)) % len(sources[source]) + 1000 * source
        assert mine.tolist() == expected.tolist()
        assert len(mine) / len(sources[source]) == pytest.approx(mixture.rounds[source])
        for start in range(0, len(numbers) - 100, 50):
            part = numbers[start : start + 100] // 1000 == source
            assert abs(part.sum() - 100 * share) <= 2
    assert min(mixture.rounds) == 1.0


def test_a_mixture_ends_with_the_last_example_that_was_not_given_yet() -> None:
    for lengths in ((1, 1), (333, 1), (334, 667), (5000, 3)):
        mixture = data.mixed([data.arrays(np.arange(n)) for n in lengths], [1, 2])
        owners, places = mixture.find(np.arange(len(mixture)))
        last = owners[-1]
        assert places[-1] == lengths[last] - 1
        assert np.sum(owners == last) == lengths[last]
        assert all(len(set(places[owners == n])) == lengths[n] for n in (0, 1))


@pytest.mark.parametrize(
    ("lengths", "weights", "words"),
    [
        ((3, 3), [1], "2 sources with 1 weights"),
        ((3, 3), [1, 0], "at least a thousandth"),
        ((3, 3), [1, float("nan")], "at least a thousandth"),
    ],
)
def test_weights_that_make_no_mixture_are_an_error(lengths: Any, weights: Any, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        data.mixed([data.arrays(np.arange(n)) for n in lengths], weights)


def test_sources_that_differ_cannot_be_mixed() -> None:
    with pytest.raises(ValueError, match=r"source 1 of the mixture gives .*float32"):
        data.mixed([data.arrays(np.arange(3)), data.arrays(np.ones(3, np.float32))], [1, 1])


def test_decode_may_give_a_list_as_decode_csv_does(tmp_path: Path) -> None:
    rows = data.csv_rows(write(tmp_path / "x.csv", "1,a\n2,b\n"), header=False)
    (batch,) = data.batches(rows, 2, lambda lines: tf.io.decode_csv(lines, [0, ""]), shuffle=False)
    assert [column.numpy().tolist() for column in batch.data] == [[1, 2], [b"a", b"b"]]


def test_only_the_reads_of_sources_are_known_to_be_pure() -> None:
    pure = data.batches(data.arrays(np.arange(9)), 2)
    users = pure.map(lambda batch: tf.numpy_function(lambda n: n, [batch.ids], tf.int64))
    stateless = pure.map(
        lambda batch: tf.numpy_function(lambda n: n, [batch.ids], tf.int64, stateful=False)
    )
    assert not list(problems(read_graph(pure)))
    for dataset in (users, stateless):
        (problem,) = problems(read_graph(dataset))
        assert "py_function or numpy_function" in problem.what


def test_batches_needs_a_source() -> None:
    with pytest.raises(TypeError, match=r"needs a source, not list; make one with .* objects\(\)"):
        data.batches([1, 2, 3], 2)  # type: ignore[arg-type]


@pytest.fixture
def built(tmp_path: Path) -> tuple[Any, list[weakref.ref[Source]]]:
    """A function that builds a dataset of two files, and all of the sources that it has made."""
    files = [write_records(tmp_path / name, [b"x"] * 9) for name in ("one", "two")]
    sources: list[weakref.ref[Source]] = []

    def build() -> Any:
        source = data.tfrecords(files)
        sources.append(weakref.ref(source))
        return data.batches(source, 4).prefetch(1)

    return build, sources


def alive(sources: list[weakref.ref[Source]]) -> int:
    return sum(source() is not None for source in sources)


def open_files() -> int:
    return sum(1 for _ in Path("/proc/self/fd").iterdir())


def test_a_dataset_that_is_built_for_each_evaluation_leaves_nothing_open(built: Any) -> None:
    build, sources = built
    validation = validation_data(build, seed=0)
    assert validation is not None
    gc.collect()  # What other tests left may have files open, and close them in between.
    before = open_files()
    for _ in range(4):
        assert len(list(validation.read())) == 5
    assert len(sources) >= 6
    assert alive(sources) == 0
    assert open_files() <= before


def test_of_the_builds_of_a_start_only_that_which_is_trained_on_stays(
    built: Any, tmp_path: Path
) -> None:
    build, sources = built
    position = PipelineFactory(build, 0, 2, None).pipeline(False, tmp_path / "s").stream.position
    position.start(0)
    assert len(sources) == 3
    assert alive(sources) == 1
    batches = 0
    while position.next():
        batches += 1
    assert batches == 10


def test_a_source_is_kept_as_long_as_it_is_read(built: Any) -> None:
    build, sources = built
    iterator = iter(build().map(lambda batch: batch.data).enumerate())
    within = tf.data.Dataset.range(2).flat_map(lambda _: build())
    gc.collect()
    assert len(list(iterator)) == 5
    assert len(list(within)) == 10
    assert alive(sources) == 2
    del iterator, within
    gc.collect()
    assert alive(sources) == 0
