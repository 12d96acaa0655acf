"""Several sources mixed in given shares, so that any place of the mixture is found at once.

The mixture repeats one pattern of 1,000 places, in which each source has places by its share,
spread evenly. So the example at a place follows from a small table: place -> source, and how many
examples of that source came before, which is the place in that source, or beyond its end, where it
begins anew.

An epoch ends when every source was given completely at least once. Sources with a larger share than
their length would give come round more often, the last time perhaps not to their end.
"""

import logging
from collections.abc import Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from rtj_trainer.data.source import Source

_PERIOD = 1000

log = logging.getLogger(__name__)


def mixed(sources: Sequence[Source], weights: Sequence[float]) -> "Mixture":
    """Return a mixture of sources with the same signature.

    An epoch has as many examples as it takes to give every source completely at least once;
    `Mixture.rounds`, and the log, tell how often each comes round in it.

    Args:
        sources: From functions of `rtj_trainer.data`; at least one.
        weights: The share of each source, in any unit; rounded to thousandths of their sum.

    Raises:
        ValueError: a source is empty or has another signature; the weights are not as many, or one
            is less than a thousandth of their sum.
    """
    if not sources or len(sources) != len(weights):
        raise ValueError(
            f"{len(sources)} sources with {len(weights)} weights; give each one weight"
        )
    for number, source in enumerate(sources):
        if len(source) == 0:
            raise ValueError(f"source {number} of the mixture is empty: {source.contents}")
        if source.signature != sources[0].signature:
            raise ValueError(
                f"source {number} of the mixture gives {source.signature}, but source 0 gives "
                f"{sources[0].signature}; they must be alike"
            )
    mixture = Mixture(list(sources), _counts(weights))
    log.info(
        "an epoch of the mixture has %d examples; its sources come round %s times",
        len(mixture),
        ", ".join(f"{times:.2f}" for times in mixture.rounds),
    )
    return mixture


def _counts(weights: Sequence[float]) -> np.ndarray:
    """Return the places of each source in the pattern, by the largest remainder."""
    shares = np.asarray(weights, np.float64)
    if not np.all(np.isfinite(shares)) or np.any(shares * _PERIOD < shares.sum() * 0.999):
        raise ValueError(f"weights must be at least a thousandth of their sum each, not {weights}")
    exact = shares / shares.sum() * _PERIOD
    counts: np.ndarray = np.floor(exact + 1e-9).astype(np.int64)
    largest = np.argsort(counts - exact, kind="stable")
    counts[largest[: _PERIOD - int(counts.sum())]] += 1
    return counts


class Mixture(Source):
    """Sources that take turns.

    Args:
        sources: Not empty, and alike.
        counts: Places of each in the pattern, at least 1.
    """

    def __init__(self, sources: list[Source], counts: np.ndarray) -> None:
        self._sources = sources
        self._counts = counts
        owners = np.repeat(np.arange(len(sources)), counts)
        nth = np.concatenate([np.arange(count) for count in counts])
        order = np.lexsort((owners, (nth + 0.5) / counts[owners]))
        self._owners, self._nth = owners[order], nth[order]
        self._length = max(map(self._first_end, range(len(sources))))

    def _first_end(self, number: int) -> int:
        """Return the place after that of a source's last example."""
        whole, rest = divmod(len(self._sources[number]) - 1, int(self._counts[number]))
        return whole * _PERIOD + int(np.flatnonzero(self._owners == number)[rest]) + 1

    def __len__(self) -> int:
        """Return the number of places in an epoch."""
        return self._length

    @property
    def rounds(self) -> list[float]:
        """How often each source is given in one epoch, at least 1."""
        whole, rest = divmod(self._length, _PERIOD)
        given = whole * self._counts + np.bincount(self._owners[:rest], minlength=len(self._counts))
        return [
            float(count) / len(source) for count, source in zip(given, self._sources, strict=True)
        ]

    @property
    def signature(self) -> Any:
        """That of each source."""
        return self._sources[0].signature

    @property
    def contents(self) -> dict[str, str]:
        """The contents of each source, by its number."""
        found = {"mixture": f"{self._counts.tolist()} of {_PERIOD}"}
        for number, source in enumerate(self._sources):
            found |= {f"{number}: {name}": held for name, held in source.contents.items()}
        return found

    @property
    def sampled(self) -> bool:
        """Whether one of the sources is."""
        return any(source.sampled for source in self._sources)

    def find(self, places: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return the source at each place, and the place in that source."""
        block, within = np.divmod(places, _PERIOD)
        owners = self._owners[within]
        lengths = np.array([len(source) for source in self._sources])
        return owners, (block * self._counts[owners] + self._nth[within]) % lengths[owners]

    def read(self, places: np.ndarray) -> list[np.ndarray]:
        """Return the examples, each read from its source."""
        owners, inner = self.find(places)
        specs = tf.nest.flatten(self.signature)
        kinds = [object if spec.dtype == tf.string else spec.dtype.as_numpy_dtype for spec in specs]
        examples = [
            np.empty((len(places), *spec.shape), kind)
            for spec, kind in zip(specs, kinds, strict=True)
        ]
        for number in np.unique(owners):
            mine = owners == number
            parts = self._sources[number].read(inner[mine])
            for whole, part in zip(examples, parts, strict=True):
                whole[mine] = part
        return examples
