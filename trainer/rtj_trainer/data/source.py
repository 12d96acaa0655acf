"""What every source of examples has in common, and how one becomes a dataset of batches."""

import weakref
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any

import numpy as np
import tensorflow as tf
from tensorflow.python.framework.func_graph import FuncGraph

from rtj_trainer.data.indexing import Tagged, current_context, numbered_batches
from rtj_trainer.preflight import readers


class Source(ABC):
    """A sequence of examples that gives the same example at the same place, whenever it is asked.

    Threads may read from it at the same time.
    """

    @abstractmethod
    def __len__(self) -> int:
        """Return how many examples there are."""

    @property
    @abstractmethod
    def signature(self) -> Any:
        """A `tf.TypeSpec` for one example, or a nesting of them."""

    @property
    @abstractmethod
    def contents(self) -> dict[str, str]:
        """What is read, by the name of a file or array, with a digest: for the fingerprint."""

    @property
    def sampled(self) -> bool:
        """Whether `contents` knows some of the examples only, so that others may change unseen."""
        return False

    @abstractmethod
    def read(self, places: np.ndarray) -> list[np.ndarray]:
        """Return the examples at some places, stacked, one array for each tensor of `signature`.

        Args:
            places: Shape [n], int64, each in [0, len).

        Raises:
            OSError: a file cannot be read, or is not what it was.
        """


def batches(
    source: Source,
    batch_size: int,
    decode: Callable[[Any], Any] | None = None,
    *,
    augment: Callable[[Any, Any], Any] | None = None,
    shuffle: bool = True,
    drop_remainder: bool = False,
) -> tf.data.Dataset:
    """Return a dataset of batches of a source's examples, each example once per epoch.

    A batch is read by one call, and several are read at the same time, in a fixed order. Only `map`
    and `prefetch` may follow, as after `indexed`; `prefetch` is left to you.

    Args:
        source: From a function of `rtj_trainer.data`.
        batch_size: Examples per batch, at least 1; the last batch of an epoch may be shorter.
        decode: Makes what the model is trained on from a batch of `source.signature`, with
            TensorFlow operations, as `lambda raw: tf.io.parse_example(raw, features)` does.
        augment: Makes what the model is trained on from what `decode` gave and a seed of shape [2],
            int64, which is another in every batch of the job: for `tf.random.stateless_*`.
        shuffle: Another order in every epoch.
        drop_remainder: Drop the last batch of an epoch if it is shorter.

    Returns:
        Elements `Tagged(ids, data)`; the ids are the places of the examples in the source.

    Raises:
        TypeError: `source` is not one.
        ValueError: it has no examples, or another argument is out of range.
    """
    if not isinstance(source, Source):
        raise TypeError(
            f"batches() needs a source, not {type(source).__name__}; make one with "
            "a function of rtj_trainer.data, as arrays() or objects()"
        )
    if len(source) == 0:
        raise ValueError(f"no examples in {', '.join(source.contents) or 'the source'}")
    numbered = numbered_batches(len(source), batch_size, shuffle, drop_remainder)
    context = current_context()
    context.contents.update(source.contents)
    context.sampled |= source.sampled

    def batch(number: Any, places: Any) -> Tagged:
        examples = read_tensors(source, places)
        if decode is not None:
            examples = decode(examples)
        if augment is not None:
            examples = augment(examples, tf.stack([tf.constant(context.seed, tf.int64), number]))
        # A list, as of decode_csv, is several tensors, as in what tf.data's own map returns.
        return Tagged(places, tuple(examples) if isinstance(examples, list) else examples)

    return numbered.map(batch, num_parallel_calls=tf.data.AUTOTUNE, deterministic=True)


@tf.autograph.experimental.do_not_convert  # type: ignore[untyped-decorator]
def read_tensors(source: Source, places: Any) -> Any:
    """Return the tensors that a graph reads from a source at `places`, shape [n], int64.

    The caller must keep the source as long as what runs the graph; a function given to `map` does
    by naming it, since the dataset keeps the function, and an iterator its dataset.
    """
    batch = tf.nest.map_structure(lambda spec: spec._batch(places.shape[0]), source.signature)
    specs = tf.nest.flatten(batch, expand_composites=True)
    kinds = [spec.dtype for spec in specs]
    tensors = tf.numpy_function(_reader(source), [places], kinds, stateful=False)
    readers.declare(tensors[0])
    _keep_for_callers(source, tensors[0].graph)
    shaped = [
        tf.ensure_shape(tensor, spec.shape) for tensor, spec in zip(tensors, specs, strict=True)
    ]
    return tf.nest.pack_sequence_as(batch, shaped, expand_composites=True)


def _reader(source: Source) -> Callable[[np.ndarray], list[np.ndarray]]:
    """Return what reads from a source, without keeping it: TensorFlow keeps this for ever.

    So a dataset that is built again and again, as one for each evaluation, would fill the memory
    with arrays, and the process with open files.
    """
    reference = weakref.ref(source)

    def read(places: np.ndarray) -> list[np.ndarray]:
        found = reference()
        if found is None:
            raise RuntimeError("the dataset was given up; keep it as long as you read from it")
        return found.read(places)

    return read


def _keep_for_callers(source: Source, graph: Any) -> None:
    """Keep a source as long as the functions within which its dataset is built.

    In `flat_map(lambda i: batches(…))` the dataset is gone once the outer function is traced.
    """
    while isinstance(graph := graph.outer_graph, FuncGraph):
        graph._rtj_sources = [*getattr(graph, "_rtj_sources", []), source]
