"""Finds what steps and callbacks change in TensorFlow and no commit would hold.

TensorFlow tells of every variable that is made (`tf.variable_creator_scope`) and of every function
that is traced, and the watch begins before there is any. So before a commit each variable is looked
at that is not in it: it must be there since before the first step, and have the value that it had
then. A traced function of a user's own loop must have no state outside of variables.

Values are compared by their memory first: TensorFlow does not write into memory that somebody else
holds, so a variable that nobody assigned to costs nothing.
"""

import gc
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, NoReturn

import numpy as np
import tensorflow as tf
from rtj_api.names import Reason
from tensorflow.python.eager import context

from rtj_trainer.errors import PermanentError
from rtj_trainer.progress import Progress
from rtj_trainer.state import Objects, TrainingState
from rtj_trainer.touched import hidden_among, refuse_hidden

_OF_ITERATORS = {"IteratorGetNext", "IteratorGetNextSync", "IteratorGetNextAsOptional"}
"""model.evaluate reads a dataset by these; an iterator that stays is found as an object."""

_END = object()

_OPERATION = "__wrapped__"
"""How the names of functions begin that TensorFlow makes of a single operation."""


class Watch:
    """Watches all variables, iterators and traced functions of this process.

    Args:
        instead: How a variable gets into commits, for messages.
    """

    def __init__(self, instead: str) -> None:
        self._instead = instead
        self._variables: list[weakref.ref[Any]] = []
        self._iterators: list[weakref.ref[Any]] = []
        self._passed: set[str] = set()
        """Names of functions that were looked at, or are not the program's."""
        self._kept: set[int] | None = None
        """Handles of the variables that are in commits, by id; None before the first step."""
        self._known: dict[int, tuple[Any, Any]] = {}
        """Handle and value of each other variable, as they were before the first step."""
        self._traced = True
        self._passing = False

    @contextmanager
    def made(self) -> Iterator[None]:
        """See what is made in this context."""
        from tensorflow.python.data.ops.iterator_ops import OwnedIterator

        def creator(make: Callable[..., Any], **arguments: Any) -> Any:
            variable = make(**arguments)
            self._variables.append(weakref.ref(variable))
            return variable

        original = OwnedIterator.__init__

        def initialise(iterator: Any, *args: Any, **kwargs: Any) -> None:
            original(iterator, *args, **kwargs)
            if not self._passing:
                self._iterators.append(weakref.ref(iterator))

        OwnedIterator.__init__ = initialise
        try:
            with tf.variable_creator_scope(creator):
                yield
        finally:
            OwnedIterator.__init__ = original

    @contextmanager
    def passing(self) -> Iterator[None]:
        """Pass over the iterators that are made in this context: they are the trainer's."""
        self._passing = True
        try:
            yield
        finally:
            self._passing = False

    @contextmanager
    def passing_functions(self) -> Iterator[None]:
        """Pass over the functions that are traced in this context: they are the dataset's."""
        before = _functions()
        try:
            yield
        finally:
            self._passed |= _functions() - before

    def begin(self, kept: list[Any], traced: bool) -> None:
        """Begin, before the first step, with all that is in commits.

        Args:
            kept: Handles of the variables.
            traced: Whether to look at traced functions.
        """
        self._kept, self._traced = {id(handle) for handle in kept}, traced
        for variable in self._not_kept():
            self._known[id(variable.handle)] = (variable.handle, variable.read_value())

    def check(self, step: int, held: Callable[[], list[Any]]) -> None:
        """Return if all that the steps have changed is in commits.

        Args:
            step: Number of the last step, for the message.
            held: Returns the variables whose values objects with a state of their own give.

        Raises:
            PermanentError: `PipelineNotResumable`, naming what is not.
        """
        if self._kept is None:
            return
        if self._traced:
            self._check_functions()
        # Lists, as the truth of a variable is that of its value.
        if list(self._changed()) or list(self._living(self._iterators)):
            gc.collect()  # What only waits for its end is no state.
        if changed := list(self._changed()):
            given = {id(variable.handle) for variable in held()}
            for variable in changed:
                if id(variable.handle) not in given:
                    self._refuse(variable, step)
        for iterator in self._living(self._iterators):
            raise PermanentError(
                Reason.PIPELINE_NOT_RESUMABLE,
                f"after step {step} there is an iterator of another dataset than that of the "
                f"training ({iterator.element_spec}), whose position no commit would hold, so the "
                "training was ended: zip the datasets into one, or make the iterator anew for each "
                "use and let it go",
            )

    def _check_functions(self) -> None:
        names = {name for name in _functions() - self._passed if not name.startswith(_OPERATION)}
        self._passed |= names
        operations = {node.op for name in names for node in _nodes(name)} - names - _OF_ITERATORS
        if hidden := hidden_among(operations):
            refuse_hidden("a tf.function of the program", hidden)

    def _not_kept(self) -> Iterator[Any]:
        for variable in self._living(self._variables):
            if id(variable.handle) not in (self._kept or ()):
                yield variable

    def _changed(self) -> Iterator[Any]:
        for variable in self._not_kept():
            known = self._known.get(id(variable.handle))
            if known is None or not _same(known[1], variable.read_value()):
                yield variable

    def _refuse(self, variable: Any, step: int) -> NoReturn:
        what = "was changed by" if id(variable.handle) in self._known else "was made during"
        raise PermanentError(
            Reason.PIPELINE_NOT_RESUMABLE,
            f"the variable {variable.name!r} of shape {variable.shape} {what} the steps up to "
            f"{step}, but no commit would hold it, so the training was ended: {self._instead}",
        )

    @staticmethod
    def _living(references: list[Any]) -> Iterator[Any]:
        for reference in references:
            found = reference()
            if found is not None:
                yield found


def _functions() -> set[str]:
    return set(context.context().list_function_names())


def _nodes(name: str) -> Any:
    return context.context().get_function_def(name).node_def


def _same(before: Any, after: Any) -> bool:
    if before.shape != after.shape:
        return False
    one, other = np.asarray(before), np.asarray(after)
    if one.dtype == object:
        return np.array_equal(one, other)
    if one.__array_interface__["data"] == other.__array_interface__["data"]:
        return True
    return one.tobytes() == other.tobytes()


class WatchedState(TrainingState):
    """Is captured only if nothing is missing in it."""

    def __init__(
        self,
        variables: dict[str, list[tf.Variable]],
        functions: list[Any],
        objects: Objects,
        watch: Watch,
        progress: Progress,
    ) -> None:
        super().__init__(variables, functions, objects)
        self._watch = watch
        self._progress = progress

    def begin(self, traced: bool) -> None:
        """Begin to watch, before the first step.

        Args:
            traced: Whether to look at traced functions.
        """
        kept = [handle.resource for group in self.groups.values() for handle in group]
        self._watch.begin(kept, traced)

    def check(self) -> None:
        """Return if nothing is missing; see `Watch.check` for what else it raises."""
        super().check()
        self._watch.check(max(self._progress.step, 1), self._objects.variables)

    def each(self, elements: Iterator[Any]) -> Iterator[Any]:
        """Yield the batches that the trainer makes, and check what the first step leaves."""
        first = True
        while True:
            with self._watch.passing():
                element = next(elements, _END)
            if element is _END:
                return
            yield element
            if first:  # Not only at the first commit, for which the user would have to wait.
                self.check()
                first = False
