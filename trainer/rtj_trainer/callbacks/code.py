"""Reads the code of a function: what it sets, changes in place, and gets by the names of others.

What a name refers to is not asked here. A value that a local variable took over before it is
changed, or that another function gives back, is not followed.
"""

import ast
import dis
import inspect
import textwrap
from collections.abc import Iterator
from types import CodeType
from typing import Any

_MAY_BE_SET = {"learning_rate", "lr", "stop_training"}
_SETTERS = {"setattr", "delattr", "globals", "vars", "exec", "eval", "__setattr__", "__dict__"}
CHANGERS = {
    *("add", "append", "appendleft", "clear", "discard", "extend", "insert", "pop", "popitem"),
    *("popleft", "remove", "reverse", "setdefault", "sort", "update"),
}
"""Methods of lists, dicts, sets and deques that change them."""
_CLOCKS = {
    *("time", "time_ns", "monotonic", "monotonic_ns", "perf_counter", "perf_counter_ns"),
    *("process_time", "process_time_ns", "now", "utcnow", "today"),
}
_ATTRIBUTES = ("LOAD_ATTR", "LOAD_METHOD")
_GLOBALS = ("LOAD_GLOBAL", "LOAD_NAME")
_ROOTS = (*_GLOBALS, "LOAD_FAST", "LOAD_DEREF", "LOAD_CLASSDEREF")


def codes(code: CodeType) -> Iterator[CodeType]:
    """Yield a function's code and those of the functions in it."""
    yield code
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from codes(constant)


def sets(outer: CodeType) -> str | None:
    """Return the name of what the code sets, if that outlives the call."""
    names = {str(step.argval) for step in _steps(outer) if step.opname in (*_GLOBALS, *_ATTRIBUTES)}
    if setter := names & _SETTERS:
        return f"an object that the check cannot trace, by {min(setter)}"
    for step in _steps(outer):
        name = str(step.argval)
        if step.opname in ("STORE_ATTR", "DELETE_ATTR"):
            if name not in _MAY_BE_SET:
                return f"the attribute {name}"
            if clock := names & _CLOCKS:
                return f"{name} by the clock ({min(clock)}); count steps instead"
        if step.opname in ("STORE_GLOBAL", "DELETE_GLOBAL"):
            return f"the global {name}"
        if step.opname in ("STORE_DEREF", "DELETE_DEREF") and name in outer.co_freevars:
            return f"{name} of the enclosing function"
    return _sets_item(outer)


def paths(outer: CodeType) -> Iterator[tuple[list[str], bool]]:
    """Yield each variable that is read with the attributes that follow, and if it is a global."""
    names: list[str] = []
    is_global = False
    for step in _steps(outer):
        if names and step.opname in _ATTRIBUTES:
            names.append(str(step.argval))
            continue
        if names:
            yield names, is_global
        names = [str(step.argval)] if step.opname in _ROOTS else []
        is_global = step.opname in _GLOBALS


def _steps(outer: CodeType) -> Iterator[Any]:
    for code in codes(outer):
        yield from dis.get_instructions(code)


def _sets_item(outer: CodeType) -> str | None:
    """Return what an item is set of, if that is not a variable of the function itself."""
    if all(step.opname not in ("STORE_SUBSCR", "DELETE_SUBSCR") for step in _steps(outer)):
        return None
    try:
        tree = ast.parse(textwrap.dedent(inspect.getsource(outer)))
    except (OSError, SyntaxError):
        return "an item of an object that the check cannot trace"
    local = {name for code in codes(outer) for name in (*code.co_varnames, *code.co_cellvars)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Subscript) and not isinstance(node.ctx, ast.Load):
            owner = node.value
            while isinstance(owner, ast.Subscript):
                owner = owner.value
            if not isinstance(owner, ast.Name) or owner.id not in local:
                return f"an item of {ast.unparse(owner)}"
    return None
