"""Takes one batch and saves the iterator into a folder that is thrown away."""

import shutil
from pathlib import Path
from typing import Any

import tensorflow as tf
from rtj_api.names import Reason

from rtj_trainer.errors import UserError
from rtj_trainer.preflight.graph import complaint
from rtj_trainer.preflight.refusal import refuse
from rtj_trainer.preflight.strategy import refuse_empty
from rtj_trainer.reader import Reader


def probe(dataset: Any, strategy: str, folder: Path) -> None:
    """Refuse a dataset without elements, or one whose iterator cannot be saved once it ran.

    Args:
        dataset: Built for this; a shuffle that was iterated gives another order the next time.
        strategy: Name of the chosen strategy; only `iterator` saves.
        folder: Scratch folder; gone afterwards.

    Raises:
        PermanentError: the dataset is refused.
        UserError: the volume is full or broken.
    """
    reader = Reader(dataset.enumerate())
    if next(reader, None) is None:
        refuse_empty()
    if strategy != "iterator":
        return
    try:
        folder.mkdir()
        tf.train.Checkpoint(iterator=reader.iterator).write(str(folder / "probe"))
    except (tf.errors.UnimplementedError, tf.errors.FailedPreconditionError) as error:
        refuse([f"TensorFlow cannot save its iterator: {complaint(error)}; replace that operation"])
    except NotImplementedError as error:
        refuse([f"TensorFlow cannot save its iterator: {error}; replace that operation"])
    except (OSError, tf.errors.ResourceExhaustedError) as error:
        raise UserError(Reason.VOLUME_UNUSABLE, f"{folder} cannot be written: {error}") from error
    finally:
        shutil.rmtree(folder, ignore_errors=True)
