"""Keras callbacks, called by our loop when `model.fit` would, their own state in each commit.

A callback decides: it stops the job, lowers the learning rate, keeps the best weights. What it
decides by is in its attributes, which no restart would bring back. So each callback is one of
these, or refused before step 0 (`keeping`):

- one of Keras, whose attributes that matter are known by name;
- one with the two methods `get_state()` and `set_state(state)`; the state is made of None, bools,
  numbers, texts, arrays, and lists, tuples and dicts of such (`rtj_trainer.plain`);
- one that provably keeps nothing: its code sets no attribute and no global, and what it holds
  cannot change (`stateless`).

In a process, `on_train_begin` is called once, and then the state is restored, of callbacks as well
as of variables. Every other call belongs to a step or to an epoch, and takes place once in the
history that the commits tell of: after a kill, the calls since the last commit are made again, on
the state of that commit. No commit falls between the last call of an epoch and the first step of
the next, so the end of an epoch, validation included, is in a commit as a whole or not at all.
"""

from rtj_trainer.callbacks.runner import CallbackRunner

__all__ = ["CallbackRunner"]
