"""The parts of the dataset's cache: records, keys, two writers, eviction, shared shards."""

import os
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import tensorflow as tf
from rtj_api.heartbeat import CacheProgress, Heartbeat, TrainerPhase
from rtj_api.launch import TrainerConfig
from rtj_trainer import data
from rtj_trainer.cache import elements, eviction, telling, uses, writer
from rtj_trainer.cache.examples import BLOCK, ExamplesFactory
from rtj_trainer.cache.folder import CacheFolder, Entry, read_manifest, write_manifest
from rtj_trainer.cache.key import key_of
from rtj_trainer.cache.materialise import materialise
from rtj_trainer.cache.sharing import Sharing
from rtj_trainer.cache.source import Cached
from rtj_trainer.cache.stores import FolderStore, FsspecStore, RedisStore, Store, open_store
from rtj_trainer.cache.telling import Teller
from rtj_trainer.cache.writer import Writer, make_again
from rtj_trainer.commits.layout import JobDirectory
from rtj_trainer.data import IndexedContext, indexed_context
from rtj_trainer.errors import PermanentError
from rtj_trainer.heartbeat import Heart
from rtj_trainer.position import Batch
from rtj_trainer.position.streams import ReplayPosition
from rtj_trainer.preflight.graph import read_graph
from rtj_trainer.preflight.identity import pipeline_sha256

pytestmark = pytest.mark.unit

Dataset = tf.data.Dataset


@pytest.fixture(autouse=True)
def small_shards(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let every block be a shard."""
    monkeypatch.setattr(writer, "SHARD_BYTES", 1)


@pytest.fixture
def heart() -> Heart:
    return Heart(Heartbeat(attempt=1, phase=TrainerPhase.STARTING))


def blocks(examples: Any) -> Any:
    return examples.map(lambda *example: elements.serialize(example)).batch(BLOCK)


def at(examples: Any, step: int = 0) -> ReplayPosition:
    position = ReplayPosition(blocks(examples), 1)
    position.start(step)
    return position


def folder_in(root: Path, writer_name: str = "a") -> CacheFolder:
    folder = CacheFolder(root / "cache" / "key", writer_name)
    folder.create()
    return folder


def writer_of(folder: CacheFolder, heart: Heart) -> Writer:
    return Writer(folder, None, lambda: None, Teller(heart))


def ragged(rows: list[Any]) -> Any:
    return Dataset.from_tensor_slices(tf.ragged.constant(rows))


@pytest.mark.parametrize(
    "examples",
    [
        Dataset.range(20),
        Dataset.range(20).map(lambda n: {"a": n, "b": (tf.fill([200, 3], n > 3), [n, n])}),
        Dataset.range(20).map(lambda n: (tf.strings.as_string(n) + "\0", tf.cast(n, tf.bfloat16))),
        Dataset.range(20).map(lambda n: (data.Tagged(n, -n), tf.zeros([0], tf.uint8))),
        ragged([[1], [2, 3], [], [4]] * 5),
        ragged([[["a"], []], [], [["b", "c"]]] * 6),
        Dataset.from_tensor_slices(tf.sparse.from_dense(np.eye(20, 3, dtype=np.float32))),
    ],
    ids=["number", "nested", "strings", "tagged", "ragged", "ragged-twice", "sparse"],
)
def test_any_structure_is_read_as_tf_data_would_batch_it(
    examples: Any, tmp_path: Path, heart: Heart
) -> None:
    folder = folder_in(tmp_path)
    entries = writer_of(folder, heart).write(at(examples), [])
    source = Cached(folder, entries, examples.element_spec)
    assert len(source) == int(examples.cardinality())
    expected, found = (
        [tf.nest.flatten(batch, expand_composites=True) for batch in batches]
        for batches in (
            examples.batch(7),
            data.batches(source, 7, shuffle=False).map(lambda batch: batch.data),
        )
    )
    for before, after in zip(expected, found, strict=True):
        assert [part.dtype for part in before] == [part.dtype for part in after]
        assert [part.numpy().tolist() for part in before] == [p.numpy().tolist() for p in after]


def test_a_shard_can_be_read_by_tensorflow_alone(tmp_path: Path, heart: Heart) -> None:
    folder = folder_in(tmp_path)
    [entry] = writer_of(folder, heart).write(at(Dataset.range(3).map(lambda n: (n, [n, n]))), [])
    for place, record in enumerate(tf.data.TFRecordDataset(str(folder.shard(entry)))):
        number, pair = tf.io.parse_tensor(record, tf.string)
        assert tf.io.parse_tensor(number, tf.int64) == place
        assert tf.io.parse_tensor(pair, tf.int64).numpy().tolist() == [place, place]


def test_examples_that_do_not_fit_together_say_what_to_do(tmp_path: Path, heart: Heart) -> None:
    examples = Dataset.range(1, 4).map(tf.range)
    folder = folder_in(tmp_path)
    source = Cached(folder, writer_of(folder, heart).write(at(examples), []), examples.element_spec)
    with pytest.raises(ValueError, match=r"shapes \(1,\), \(2,\) cannot be one batch.* pad them"):
        source.read(np.array([0, 1]))


def test_another_seed_for_each_batch_and_the_same_after_a_restart() -> None:
    source = data.arrays(np.arange(20))

    def noise(start: int) -> list[Any]:
        with indexed_context(IndexedContext(seed=3, start=start, stop=8)):
            batches = data.batches(
                source, 5, augment=lambda n, seed: tf.random.stateless_uniform(tf.shape(n), seed)
            )
        return [tuple(batch.data.numpy().tolist()) for batch in batches]

    assert len(set(noise(0))) == 8
    assert noise(0)[5:] == noise(5)


class Meanwhile:
    """A position at whose `count`-th block something else happens first."""

    def __init__(self, inner: ReplayPosition, count: int, happens: Callable[[], object]) -> None:
        self._inner = inner
        self._left = count
        self._happens = happens
        self.save = inner.save

    def next(self) -> Batch | None:
        self._left -= 1
        if self._left == 0:
            self._happens()
        return self._inner.next()


class Saved(ReplayPosition):
    """A position that has something to keep."""

    def save(self, folder: Path) -> None:
        (folder / "iterator").write_text("here")


def test_a_writer_killed_before_its_entry_leaves_the_position_that_is_needed(
    tmp_path: Path, heart: Heart, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = folder_in(tmp_path)
    add = folder.add
    monkeypatch.setattr(
        folder, "add", lambda number, entry: add(number, entry) if number < 3 else 1 / 0
    )
    position = Saved(blocks(Dataset.range(100)), 1)
    position.start(0)
    with pytest.raises(ZeroDivisionError):
        writer_of(folder, heart).write(position, [])
    known = len(folder.entries())
    assert known == 3
    assert (folder.position(known) / "iterator").exists()
    assert not folder.position(known - 1).exists()


def test_two_writers_at_once_write_one_cache(tmp_path: Path, heart: Heart) -> None:
    examples = Dataset.range(100)
    slow, fast = folder_in(tmp_path, "slow"), folder_in(tmp_path, "fast")
    written: list[Entry] = []
    both = Meanwhile(
        at(examples), 3, lambda: written.extend(writer_of(fast, heart).write(at(examples), []))
    )
    assert writer_of(slow, heart).write(both, []) == written  # type: ignore[arg-type]
    assert sum(entry.examples for entry in written) == 100
    source = Cached(slow, written, examples.element_spec)
    assert source.read(np.arange(100))[0].tolist() == list(range(100))
    assert sorted(path.name for path in slow.shards.iterdir()) == sorted(e.file for e in written)


def test_a_writer_that_reads_other_examples_than_another_is_refused(
    tmp_path: Path, heart: Heart
) -> None:
    folder = folder_in(tmp_path)
    folder.add(0, writer_of(folder, heart).shard(at(Dataset.range(100)), None))  # type: ignore[arg-type]
    with pytest.raises(PermanentError, match="two processes read other examples for shard 0"):
        writer_of(folder, heart).write(at(Dataset.range(1, 101)), [])


def test_a_damaged_entry_is_written_again(tmp_path: Path, heart: Heart) -> None:
    folder = folder_in(tmp_path)
    examples = Dataset.range(100)
    for number in range(3):
        folder.add(number, writer_of(folder, heart).shard(at(examples, number), None))  # type: ignore[arg-type]
    path = folder.root / "entries" / "000001.json"
    path.write_text(path.read_text().replace("16", "15"))
    known = folder.entries()
    assert len(known) == 1
    entries = writer_of(folder, heart).write(at(examples, 1), known)
    assert sum(entry.examples for entry in entries) == 100


def test_a_shard_that_would_be_another_when_made_again_is_refused(
    tmp_path: Path, heart: Heart
) -> None:
    folder = folder_in(tmp_path)
    entries = writer_of(folder, heart).write(at(Dataset.range(100)), [])
    with pytest.raises(PermanentError, match=f"shard 2 .*{entries[2].file}, is damaged or gone"):
        make_again(writer_of(folder, heart), at(Dataset.range(1, 101), 2), entries, [2])


def module_of(build: Callable[..., Any]) -> ModuleType:
    module = ModuleType("builder")
    module.build_dataset = build  # type: ignore[attr-defined]
    return module


def config_of(volume: Path, **changes: Any) -> TrainerConfig:
    builder = {"module": "builder", "datasetFunction": "build_dataset", "datasetParams": {}}
    config = {
        "jobName": "job",
        "jobUid": "uid",
        "attempt": 1,
        "volume": str(volume),
        "builder": {**builder, "modelFunction": "build_model", "modelParams": {}},
        "seed": 1,
        "epochs": 2,
        "totalSteps": None,
        "checkpoint": {"claimName": "claim"},
    }
    return TrainerConfig.model_validate({**config, **changes})


def factory(tmp_path: Path, build: Callable[..., Any]) -> ExamplesFactory:
    return ExamplesFactory(build, 1, tmp_path / "indices")


def test_a_shared_cache_that_this_machine_cannot_complete_is_written_anew_or_refused(
    tmp_path: Path, heart: Heart
) -> None:
    """The store has evicted a shard, which another kind of machine had made with other bits."""
    cache = {"batchSize": 8, "url": f"file://{tmp_path}/shared"}
    module = module_of(lambda: Dataset.range(100))

    def cached_on(claim: str, fresh: bool) -> str:
        config = config_of(tmp_path / claim, cache=cache)
        job = JobDirectory(config.volume / config.job_uid)
        job.create()
        found = materialise(config, module, job, heart, fresh=fresh)
        assert found
        return found.source.contents["cache"]

    own = cached_on("a", fresh=True)
    [manifest] = (tmp_path / "shared").glob("*/manifest.json")
    entries = read_manifest(manifest.read_bytes())
    others = [*entries[:2], replace(entries[2], sha256="0" * 64), *entries[3:]]
    manifest.write_bytes(write_manifest(others))
    with pytest.raises(PermanentError, match=r"shard 2 .* gone, .* machine of the same kind"):
        cached_on("b", fresh=False)
    assert cached_on("b", fresh=True) == own
    assert read_manifest(manifest.read_bytes()) == entries
    shards = {path.name for path in (tmp_path / "b").glob("cache/*/shards/*")}
    assert shards == {entry.file for entry in entries}


def cache_of_job(
    volume: Path, uid: str, build: Callable[..., Any], heart: Heart, **changes: Any
) -> Cached:
    """Return the cache of a job that starts, or starts again."""
    config = config_of(volume, jobUid=uid, cache={"batchSize": 8}, **changes)
    job = JobDirectory(volume / uid)
    job.create()
    found = materialise(config, module_of(build), job, heart, fresh=True)
    assert found
    found.use.release()
    return found.source


@pytest.mark.parametrize("mix", [False, True])
def test_a_list_of_which_items_are_only_sampled_is_cached_for_its_job_alone(
    mix: bool, tmp_path: Path, heart: Heart
) -> None:
    labels = [1] * 20

    def build() -> Any:
        items = data.objects(labels, tf.TensorSpec([], tf.int64))
        source = data.mixed([items], [1]) if mix else items
        return data.batches(source, 4, shuffle=False).map(lambda tagged: tagged.data).unbatch()

    def read_by(uid: str) -> list[int]:
        cached = cache_of_job(tmp_path, uid, build, heart)
        found: list[int] = cached.read(np.arange(20))[0].tolist()
        return found

    assert read_by("first") == labels
    labels[5] = 0
    assert read_by("second") == labels
    assert read_by("second") == labels
    assert len(list((tmp_path / "cache").iterdir())) == 2


def test_a_job_keeps_to_its_cache_when_its_data_is_fetched_anew(
    tmp_path: Path, heart: Heart, caplog: pytest.LogCaptureFixture
) -> None:
    """As by an init container: the same bytes, at another time, in each attempt."""
    file = tmp_path / "data"

    def names(uid: str, time: int, last: bytes = b"0") -> set[str]:
        """Return the caches that there are after a start."""
        file.write_bytes(bytes(199_999) + last)  # larger than all samples of it
        os.utime(file, (time, time))

        def build() -> Any:
            return tf.data.FixedLengthRecordDataset(str(file), 20_000)

        cache_of_job(tmp_path, uid, build, heart)
        return {path.name for path in (tmp_path / "cache").iterdir()}

    begun = names("uid", 1000)
    assert "other times" not in caplog.text
    assert names("uid", 2000) == begun
    assert "other times" in caplog.text
    kept = tmp_path / "uid" / "cache.json"
    kept.write_bytes(kept.read_bytes()[:-9])
    assert names("uid", 1000) == begun, "what is damaged is chosen again"
    assert len(names("another", 3000)) == 2
    assert len(names("uid", 1000, b"1")) == 3


def doubled(row: Any) -> Any:
    return row * 2


@pytest.mark.parametrize(
    ("build", "told"),
    [
        (lambda: Dataset.range(9).batch(3).prefetch(1), "leave out batch"),
        (lambda: Dataset.range(9).batch(3, drop_remainder=True).map(doubled), "leave out batch"),
        (
            lambda: (
                Dataset.range(9)
                .batch(3, num_parallel_calls=2)
                .map(doubled, num_parallel_calls=2)
                .shuffle(3)
                .take(2)
            ),
            "leave out batch",
        ),
        (
            lambda: (
                Dataset.range(8).batch(2).map(lambda row: data.Tagged(row, tf.cast(row, tf.int32)))
            ),
            "leave out batch",
        ),
        (lambda: Dataset.range(9).repeat(), "never ends; leave out repeat"),
        (lambda: Dataset.range(9).window(3), "cannot be written to a file"),
    ],
    ids=[
        "batched",
        "batched, mapped",
        "batched, shuffled",
        "batched, tagged",
        "endless",
        "windows",
    ],
)
def test_what_cannot_be_cached_says_what_to_write_instead(
    build: Callable[[], Any], told: str, tmp_path: Path
) -> None:
    with pytest.raises(PermanentError, match=told):
        factory(tmp_path, build).dataset(IndexedContext(seed=1))


@pytest.mark.parametrize(
    "build",
    [
        lambda: Dataset.range(9).batch(3).unbatch().map(doubled),
        lambda: Dataset.range(9).batch(3, drop_remainder=True).map(lambda row: (row[:-1], row[-1])),
        lambda: Dataset.range(9).batch(3, drop_remainder=True).map(tf.reduce_sum),
        lambda: (
            Dataset.range(9)
            .window(3, drop_remainder=True)
            .flat_map(lambda window: window.batch(3, drop_remainder=True))
            .map(doubled)
        ),
    ],
    ids=["unbatched", "rows to one example", "rows to a number", "windows"],
)
def test_an_example_that_was_made_of_a_batch_is_cached(
    build: Callable[[], Any], tmp_path: Path
) -> None:
    expected = build().element_spec
    made = factory(tmp_path, build)
    made.dataset(IndexedContext(seed=1))
    assert made.element_spec == expected


def test_a_pipeline_that_cannot_be_resumed_cannot_be_cached(tmp_path: Path) -> None:
    def generated() -> Any:
        signature = tf.TensorSpec([], tf.int64)
        return Dataset.from_generator(lambda: iter(range(9)), output_signature=signature)

    with pytest.raises(PermanentError, match="from_generator"):
        factory(tmp_path, generated).pipeline(False, tmp_path / "scratch")


def test_the_key_is_code_parameters_and_data(tmp_path: Path) -> None:
    lines = tmp_path / "lines.txt"
    lines.write_text("1\n2\n")

    def key(dataset: Any, source: str = "text", path: object = "") -> str:
        graph = read_graph(blocks(dataset))
        identity = {"pipeline": pipeline_sha256(graph.definition)}
        own, params = tmp_path / "volume" / "uid", {"path": str(path)}
        sources, spec = {"builder": source}, dataset.element_spec
        return key_of(identity, graph, spec, params, sources, own, sampled=False).name

    def lengths(path: Path) -> Any:
        return tf.data.TextLineDataset(str(path)).map(tf.strings.length)

    assert key(Dataset.range(9)) == key(Dataset.range(9), source="another model")
    assert key(Dataset.range(9)) != key(Dataset.range(10))
    assert key(Dataset.range(9)) != key(Dataset.range(9).map(lambda n: n + 1))
    x, y = (key(Dataset.range(9).map(lambda n, name=name: {name: n})) for name in "xy")
    assert x != y
    keys = {
        key(lengths(lines)),
        key(lengths(tmp_path / "*.txt")),
        key(Dataset.range(9), path=lines),
    }
    lines.write_text("1\n3\n")
    keys |= {
        key(lengths(lines)),
        key(lengths(tmp_path / "*.txt")),
        key(Dataset.range(9), path=lines),
    }
    assert len(keys) == 6
    keys_and_values = tf.lookup.KeyValueTensorInitializer(tf.range(3), tf.range(3))
    table = tf.lookup.StaticHashTable(keys_and_values, -1)
    looked_up = Dataset.range(9).map(lambda n: table.lookup(tf.cast(n, tf.int32)))
    assert key(looked_up) != key(looked_up, source="another table")


def cache_of(root: Path, key: str, size: int, age: float, user: float | None = None) -> None:
    """Make a cache that was last used so long ago, and marked by a job so long ago."""
    (root / key / "uses").mkdir(parents=True)
    (root / key / "shard").write_bytes(bytes(size))
    marks = {root / key / uses.LAST_USED: age}
    if user is not None:
        marks[root / key / "uses" / "uid"] = user
    for path, seconds in marks.items():
        path.touch()
        os.utime(path, (time.time() - seconds, time.time() - seconds))


def test_the_cache_that_was_used_longest_ago_makes_room_and_none_that_is_used(
    tmp_path: Path,
) -> None:
    hour = uses.LEASE_SECONDS
    cache_of(tmp_path, "own", 100, 9 * hour)
    cache_of(tmp_path, "used", 100, 8 * hour, user=hour - 60)
    cache_of(tmp_path, "killed", 100, 7 * hour, user=hour + 60)
    cache_of(tmp_path, "old", 100, 6 * hour)
    cache_of(tmp_path, "new", 100, 5)
    leftover = tmp_path / ".evicted-x"
    leftover.mkdir()

    def left(limit: int, incoming: int = 0) -> set[str]:
        eviction.make_room(tmp_path, limit, "own", incoming)
        return {path.name for path in tmp_path.iterdir() if path.is_dir()}

    assert left(500) == {"own", "used", "killed", "old", "new"}
    assert left(500, incoming=1) == {"own", "used", "old", "new"}
    assert left(300) == {"own", "used", "new"}
    assert left(100) == {"own", "used"}, "above the limit rather than without data"
    with pytest.raises(PermanentError, match=r"maxSize is 99 bytes, .*cache has 100 already"):
        left(99)


def test_a_cache_that_a_job_marks_while_it_is_evicted_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache_of(tmp_path, "own", 0, 0)
    cache_of(tmp_path, "other", 10, 99)
    rename = Path.rename

    def marked_meanwhile(path: Path, target: Path) -> Path:
        if path.name == "other":
            (path / "uses" / "uid").touch()
        return rename(path, target)

    monkeypatch.setattr(Path, "rename", marked_meanwhile)
    eviction.make_room(tmp_path, 5, "own", 0)
    assert (tmp_path / "other" / "shard").exists()


def test_a_use_ends_when_it_is_released(tmp_path: Path) -> None:
    cache_of(tmp_path, "key", 1, 99)
    use = uses.Use(tmp_path / "key", "uid")
    use.begin()
    assert uses.in_use(tmp_path / "key", time.time())
    use.release()
    assert not uses.in_use(tmp_path / "key", time.time())
    assert uses.last_used(tmp_path / "key") > time.time() - 60


def all_of(store: Store, tmp_path: Path, heart: Heart) -> None:
    """Share a cache of one claim with another, damage it, and lose a shard."""
    assert store.read("no/such") is None
    assert store.size("no/such") is None
    here, there = folder_in(tmp_path / "here"), folder_in(tmp_path / "there")
    entries = writer_of(here, heart).write(at(Dataset.range(100)), [])
    sharing = Sharing(store, here, Teller(heart))
    other = Sharing(store, there, Teller(heart))
    assert other.manifest() is None
    sharing.publish(entries, [])
    assert other.manifest() == entries

    damaged = f"key/{entries[3].file}"
    content = store.read(damaged)
    assert content
    store.write(damaged, content[:-1] + b"?")
    other.fetch(entries, lambda size: None)
    found = {path.name for path in there.shards.iterdir()}
    assert found == {entry.file for entry in entries} - {entries[3].file}
    for path in there.shards.iterdir():
        assert path.read_bytes() == (here.shards / path.name).read_bytes()

    make_again(writer_of(there, heart), at(Dataset.range(100), 3), entries, [3])
    other.publish(entries, [entries[3]])
    assert store.read(damaged) == content


def test_shards_are_shared_by_redis(redis_url: str, tmp_path: Path, heart: Heart) -> None:
    store = open_store(redis_url)
    assert isinstance(store, RedisStore)
    all_of(store, tmp_path, heart)


@pytest.mark.parametrize("kind", ["memory", "file"])
def test_shards_are_shared_by_fsspec(
    kind: str, tmp_path: Path, heart: Heart, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FOLDER", f"{tmp_path}/shared")
    store = open_store(kind + "://${FOLDER}")
    assert isinstance(store, FsspecStore)
    all_of(store, tmp_path, heart)


def test_shards_are_shared_by_a_folder(tmp_path: Path, heart: Heart) -> None:
    all_of(FolderStore(tmp_path / "shared"), tmp_path, heart)


def test_a_store_that_is_away_costs_nothing_but_time(tmp_path: Path, heart: Heart) -> None:
    folder = folder_in(tmp_path)
    sharing = Sharing(open_store(f"unix://{tmp_path}/no.sock"), folder, Teller(heart))
    assert sharing.manifest() is None
    entries = writer_of(folder, heart).write(at(Dataset.range(20)), [])
    sharing.fetch(entries, lambda size: None)
    sharing.publish(entries, [])


class Stuck(FolderStore):
    """Gives one shard, has not the next, and then does not answer any more."""

    asked: int = 0

    def read(self, name: str) -> bytes | None:
        self.asked += 1
        if self.asked > 2:
            raise TimeoutError("no answer within 30 s")
        return super().read(name) if self.asked == 1 else None


def test_a_store_that_does_not_answer_is_asked_no_more(tmp_path: Path, heart: Heart) -> None:
    here, there = folder_in(tmp_path / "here"), folder_in(tmp_path / "there", "b")
    entries = writer_of(here, heart).write(at(Dataset.range(100)), [])
    Sharing(FolderStore(tmp_path / "shared"), here, Teller(heart)).publish(entries, [])
    stuck = Stuck(tmp_path / "shared")
    Sharing(stuck, there, Teller(heart)).fetch(entries, lambda size: None)
    assert [path.name for path in there.shards.iterdir()] == [entries[0].file]
    assert stuck.asked == 3


def test_shards_that_are_asked_for_and_published_move_the_heartbeat_on(
    tmp_path: Path, heart: Heart, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = folder_in(tmp_path)
    entries = writer_of(folder, heart).write(at(Dataset.range(40)), [])
    told: list[CacheProgress] = []
    monkeypatch.setattr(heart, "report", lambda cache: told.append(cache))
    monkeypatch.setattr(telling, "_SECONDS", 0.0)
    sharing = Sharing(FolderStore(tmp_path / "shared"), folder, Teller(heart))
    sharing.fetch(entries, lambda size: None)
    sharing.publish(entries, [])
    assert [one.examples for one in told] == [16, 32, 40, 56, 72, 80]


def test_a_url_that_nothing_serves_is_refused_with_the_field() -> None:
    with pytest.raises(PermanentError, match=r"spec.dataset.cache.url 'nosuch://a': .*image"):
        open_store("nosuch://a")


def test_writing_moves_the_heartbeat_on(
    tmp_path: Path, heart: Heart, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[CacheProgress] = []
    monkeypatch.setattr(heart, "report", lambda cache: told.append(cache))
    monkeypatch.setattr(telling, "_SECONDS", 3600.0)  # Of shards it tells all the same.
    writer_of(folder_in(tmp_path), heart).write(at(Dataset.range(40)), [])
    assert [(one.examples, one.shards) for one in told] == [(16, 1), (32, 2), (40, 3)]
    beats = [Heartbeat(attempt=1, phase=TrainerPhase.STARTING, cache=one) for one in told]
    assert len({beat.standstill for beat in beats}) == 3
