"""The data of `builder`, named in ways that tell more or less of it."""

import keras
import tensorflow as tf
from builder import _features, by_index, shuffled, small_model  # noqa: F401 - the trainer calls them
from rtj_trainer.data import Tagged, indexed


def dropping(size: int = 100, batch_size: int = 8):
    """12 batches; each epoch drops 4 other examples."""
    return indexed(size, batch_size, drop_remainder=True).map(_features)


def renamed():
    """An id is no place, but every example has its own."""
    return dropping().map(lambda tagged: Tagged(tagged.ids + 1000, tagged.data))


def doubled():
    """The first id is the first place, and no other."""
    batches = indexed(20, 1, shuffle=False).map(_features)
    return batches.map(lambda tagged: Tagged(tagged.ids * 2, tagged.data))


def by_kind():
    """Many examples have the same id."""
    return by_index().map(lambda tagged: Tagged(tagged.ids % 7, tagged.data))


def dropping_as_it_comes():
    """As `dropping`, but nobody knows the size of it."""
    numbers = tf.data.Dataset.range(100).shuffle(100)
    return numbers.batch(8, drop_remainder=True).map(_features)


class StopAtBatch(keras.callbacks.Callback):
    """Ends the job within its second epoch."""

    def on_train_batch_end(self, batch, logs=None):
        if self.model.optimizer.iterations == 17:
            self.model.stop_training = True


def stopped(model):
    return [StopAtBatch()]
