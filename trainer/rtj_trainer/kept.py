"""The state of Python objects: each is read and written by two functions, and not by pickle."""

import json
import types
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import tensorflow as tf
from rtj_api.names import Reason

from rtj_trainer.errors import PermanentError
from rtj_trainer.plain import Arrays, decode, encode


@dataclass(frozen=True)
class Keeper:
    """Reads and writes the state of one object."""

    name: str
    """For messages."""
    read: Callable[[], Any]
    write: Callable[[Any], None]
    owner: Any = None
    """A callback whose own methods read and write, its variables, too."""


@dataclass(frozen=True)
class Kept:
    """All objects of a job with state of their own, in their order."""

    keepers: Sequence[Keeper]

    def capture(self, arrays: Arrays) -> list[Any]:
        """Return the state of each as JSON; `arrays` gets the bytes of each array.

        Raises:
            PermanentError: `PipelineNotResumable`: an object returned what cannot be saved.
        """
        return [_encoded(keeper, arrays) for keeper in self.keepers]

    def restore(self, states: list[Any], arrays: Arrays) -> None:
        """Give each the state that `capture` returned."""
        for keeper, state in zip(self.keepers, states, strict=True):
            keeper.write(decode(state, arrays))

    def variables(self) -> list[tf.Variable]:
        """Return the variables that the owners hold."""
        return [variable for keeper in self.keepers for variable in _held(keeper.owner)]


def _held(owner: Any) -> Iterator[tf.Variable]:
    """Yield the variables that can be reached from a callback, and not through the job's model."""
    seen = {id(getattr(owner, "_model", None))}
    found = [owner]
    while found:
        value = found.pop()
        if id(value) in seen or isinstance(value, type | types.ModuleType | types.FunctionType):
            continue
        seen.add(id(value))
        if isinstance(value, tf.Variable):
            yield value
        elif isinstance(value, dict):
            found += value.values()
        elif isinstance(value, list | tuple | set):
            found += value
        else:
            found += getattr(value, "__dict__", {}).values()


def rehearse(
    capture: Callable[[Arrays], Any], restore: Callable[[Any, Arrays], None], whose: str
) -> None:
    """Save, restore and save again, so that a method that fails does so before step 0.

    Raises:
        PermanentError: `PipelineNotResumable`: the state is another afterwards.
    """
    arrays: Arrays = {}
    document = capture(arrays)
    restore(document, arrays)
    again: Arrays = {}
    # As text: two NaN are not equal otherwise.
    alike = json.dumps(capture(again)) == json.dumps(document)
    if not alike or any(again[key].tobytes() != arrays[key].tobytes() for key in arrays):
        raise PermanentError(
            Reason.PIPELINE_NOT_RESUMABLE,
            f"set_state(get_state()) of {whose} gives it another state, so training was not "
            "started; what get_state returns must be all that set_state needs",
        )


def _encoded(keeper: Keeper, arrays: Arrays) -> Any:
    try:
        return encode(keeper.read(), arrays, "the state")
    except TypeError as error:
        raise PermanentError(
            Reason.PIPELINE_NOT_RESUMABLE,
            f"the state of {keeper.name} cannot be saved: {error}",
        ) from error
