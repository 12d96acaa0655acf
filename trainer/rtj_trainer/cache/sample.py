"""The first examples of a dataset, in memory, as its cache would give them: to try what follows."""

import hashlib
from pathlib import Path
from typing import Any

import numpy as np
from rtj_api.dataset import DatasetCache

from rtj_trainer.cache.elements import Decoder
from rtj_trainer.cache.examples import ExamplesFactory
from rtj_trainer.data.source import Source
from rtj_trainer.preflight.strategy import refuse_empty

_BATCHES = 2


class Sample(Source):
    """Some examples that were serialized as for a cache.

    Args:
        records: One for each example.
        spec: Of one example.
    """

    def __init__(self, records: list[bytes], spec: Any) -> None:
        self._records = records
        self._spec = spec
        self._decoder = Decoder(spec)

    def __len__(self) -> int:
        """Return the number of examples."""
        return len(self._records)

    @property
    def signature(self) -> Any:
        """Of one example, as the builder's pipeline has it."""
        return self._spec

    @property
    def contents(self) -> dict[str, str]:
        """A digest of all records."""
        return {"cache": hashlib.sha256(b"".join(self._records)).hexdigest()}

    def read(self, places: np.ndarray) -> list[np.ndarray]:
        """Return the examples at some places, batched.

        Raises:
            ValueError: examples have shapes that do not fit together.
        """
        return self._decoder.batch([self._records[place] for place in places.tolist()])


def sample(factory: ExamplesFactory, policy: DatasetCache, scratch: Path) -> Sample:
    """Return the examples of the first batches, and one more for a last batch that is shorter.

    Args:
        factory: Builds what would be cached.
        policy: Says how large a batch is.
        scratch: A folder that may be created and is removed again.

    Raises:
        StopError: the builder is wrong or failed, or its elements cannot be cached.
    """
    wanted = _BATCHES * policy.batch_size + 1
    position = factory.pipeline(False, scratch).stream.position
    position.start(0)
    records: list[bytes] = []
    while len(records) < wanted and (block := position.next()) is not None:
        records += block.element.numpy().tolist()
    if not records:
        refuse_empty()
    return Sample(records[:wanted], factory.element_spec)
