"""Python functions in a pipeline that are known to give the same for the same input.

A pipeline with `py_function` or `numpy_function` is refused, because such a function may depend on
anything. Those of `rtj_trainer.data`, which read examples by their number, declare themselves here,
one by one: TensorFlow gives each Python function of a process a token of its own.
"""

from typing import Any

_tokens: set[str] = set()


def declare(tensor: Any) -> None:
    """Declare the function that makes a tensor in a graph, by `tf.numpy_function`."""
    _tokens.add(tensor.op.get_attr("token").decode())


def is_declared(node: Any) -> bool:
    """Return whether a node of a graph calls a declared function."""
    return node.op == "PyFuncStateless" and node.attr["token"].s.decode() in _tokens
