"""Reads the source of a function: what it sets, and by which names it gets at something.

Not the bytecode, which is another in each version of Python.
"""

import ast
import functools
import importlib.util
import inspect
import sys
import sysconfig
from collections.abc import Iterator
from types import CodeType
from typing import Any

MAY_BE_SET = {"learning_rate", "lr", "stop_training"}
_UNTRACEABLE = {
    *("setattr", "delattr", "__setattr__", "__delattr__", "__getattribute__", "__setstate__"),
    *("globals", "vars", "__dict__", "exec", "eval", "attrgetter", "methodcaller", "__init__"),
    *("__import__", "import_module", "modules"),
}
_CLOCKS = {
    *("time", "time_ns", "monotonic", "monotonic_ns", "perf_counter", "perf_counter_ns"),
    *("process_time", "process_time_ns", "now", "utcnow", "today"),
}
_LIBRARIES = (
    "<frozen ",
    *(sysconfig.get_path(name) for name in ("stdlib", "purelib", "platlib")),
)
NOT_IMPORTED = object()
"""Stands for what only a call of the function would import."""


class Source:
    """The text of a function, with all functions in it.

    Args:
        function: Written in Python.

    Raises:
        OSError: its source cannot be found.
    """

    def __init__(self, function: Any) -> None:
        self._function = function
        self._codes = list(_codes(function.__code__))
        # Lambdas of the same line cannot be told apart: what holds for one is said of all.
        self._nodes = [
            inner
            for outer in _parsed(_text(function.__code__))
            if _is(outer, function.__code__)
            for part in (outer.body if isinstance(outer.body, list) else [outer.body])
            for inner in ast.walk(part)
        ]
        if not self._nodes:
            raise OSError("it is not in its file")

    def sets(self, fresh: bool) -> str | None:
        """Return what the function sets, if that may outlive the call, after a verb.

        Args:
            fresh: Whether the object that it is a method of is only there for a while.
        """
        if untraceable := (self._global_names() | self.attributes()) & _UNTRACEABLE:
            return f"gets at what the check cannot trace, by {min(untraceable)}"
        if self._reads_unnamed():
            return "gets at what the check cannot trace, by getattr"
        for node in self._nodes:
            found = self._sets(node)
            if found and not (fresh and self._is_of_own(node)):
                return f"sets {found}"
        return None

    def attributes(self) -> set[str]:
        """Return the name of each attribute that is read of anything."""
        found = {node.attr for node in self._nodes if isinstance(node, ast.Attribute)}
        found |= {str(name) for name in map(_named, self._nodes) if name}
        for node in self._nodes:
            if isinstance(node, ast.MatchClass):
                found |= set(node.kwd_attrs)
        return found

    def roots(self) -> dict[str, Any]:
        """Return what the function has not made itself, by name: globals, enclosed, imported."""
        known, found = self._function.__globals__, {}
        for name in sorted(self._global_names() & known.keys()):
            found[name] = known[name]
        names = self._function.__code__.co_freevars
        for name, cell in zip(names, self._function.__closure__ or (), strict=True):
            try:
                # super() and a method's own class are found here too, as classes.
                found[name] = cell.cell_contents
            except ValueError:  # It has no value yet.
                continue
        return {**found, **self._imported()}

    def chains(self) -> Iterator[list[str]]:
        """Yield each variable that is read, with the attributes that follow."""
        for node in self._nodes:
            names: list[str] = []
            owner = node
            while isinstance(owner, ast.Attribute):
                names.insert(0, owner.attr)
                owner = owner.value
            if isinstance(owner, ast.Name):
                yield [owner.id, *names]

    def _sets(self, node: ast.AST) -> str | None:
        if isinstance(node, ast.Global):
            return f"the global {node.names[0]}"
        if isinstance(node, ast.Nonlocal):
            enclosed = set(node.names) & set(self._function.__code__.co_freevars)
            return f"{min(enclosed)} of the enclosing function" if enclosed else None
        if isinstance(getattr(node, "ctx", None), ast.Load):
            return None
        if isinstance(node, ast.Attribute):
            return self._sets_attribute(node)
        return self._sets_item(node) if isinstance(node, ast.Subscript) else None

    def _sets_attribute(self, node: ast.Attribute) -> str | None:
        own = isinstance(node.value, ast.Name) and node.value.id == "self"
        if node.attr not in MAY_BE_SET or own:
            return f"the attribute {node.attr}"
        names = self._global_names() | self.attributes() | self._imported().keys()
        if clock := names & _CLOCKS:
            return f"{node.attr} by the clock ({min(clock)}); count steps instead"
        return None

    def _is_of_own(self, node: Any) -> bool:
        """Return whether this is an attribute, or an item of one, of the first argument."""
        while isinstance(node, ast.Subscript):
            node = node.value
        owner = node.value if isinstance(node, ast.Attribute) else None
        return isinstance(owner, ast.Name) and owner.id in self._function.__code__.co_varnames[:1]

    def _sets_item(self, node: ast.Subscript) -> str | None:
        owner: ast.expr = node
        while isinstance(owner, ast.Subscript):
            owner = owner.value
        local = {name for code in self._codes for name in _local(code)}
        if isinstance(owner, ast.Name) and owner.id in local:
            return None
        return f"an item of {ast.unparse(owner)}"

    def _global_names(self) -> set[str]:
        used = {node.id for node in self._nodes if isinstance(node, ast.Name)}
        return {name for code in self._codes for name in {*code.co_names} - _local(code)} & used

    def _imported(self) -> dict[str, Any]:
        found: dict[str, Any] = {}
        for node in self._nodes:
            if isinstance(node, ast.Import):
                for alias in node.names:
                    found[alias.asname or alias.name] = _module(alias.name)
                    if not alias.asname:
                        top = alias.name.partition(".")[0]
                        found[top] = _module(top)
            elif isinstance(node, ast.ImportFrom):
                package = self._function.__globals__.get("__package__")
                name = "." * node.level + (node.module or "")
                module = _module(importlib.util.resolve_name(name, package))
                for alias in node.names:
                    # A library is not looked into, so it may also come with the first call.
                    absent = module if module in (None, NOT_IMPORTED) else NOT_IMPORTED
                    found[alias.asname or alias.name] = getattr(module, alias.name, absent)
        return found

    def _reads_unnamed(self) -> bool:
        named = [node for node in self._nodes if _named(node)]
        uses = [n for n in self._nodes if isinstance(n, ast.Name) and n.id == "getattr"]
        return len(uses) != len(named)


def _module(name: str) -> Any:
    """Return a module; if it was not imported, None if it is a library's, or NOT_IMPORTED."""
    if name in sys.modules:
        return sys.modules[name]
    spec = importlib.util.find_spec(name.partition(".")[0])
    return None if spec is None or is_library(spec.origin) else NOT_IMPORTED


def is_library(file: str | None) -> bool:
    """Return whether a file is part of Python or installed; what is built in has none."""
    return file is None or file in ("built-in", "frozen") or file.startswith(_LIBRARIES)


def _text(code: CodeType) -> str:
    return "".join(inspect.findsource(code)[0])


@functools.lru_cache(maxsize=8)
def _parsed(text: str) -> list[Any]:
    """Return the functions in a file."""
    try:
        tree = ast.parse(text)
    except SyntaxError as error:
        raise OSError(f"its file is not Python: {error}") from error
    kinds = (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda)
    return [node for node in ast.walk(tree) if isinstance(node, kinds)]


def _is(node: Any, code: CodeType) -> bool:
    decorators = getattr(node, "decorator_list", ())
    first = min([node.lineno, *(decorator.lineno for decorator in decorators)])
    return (getattr(node, "name", "<lambda>"), first) == (code.co_name, code.co_firstlineno)


def _codes(code: CodeType) -> Iterator[CodeType]:
    yield code
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from _codes(constant)


def _local(code: CodeType) -> set[str]:
    return {*code.co_varnames, *code.co_cellvars, *code.co_freevars}


def _named(node: ast.AST) -> Any:
    """Return the name in getattr(object, "name")."""
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "getattr":
        name = node.args[1] if len(node.args) > 1 else None
        return name.value if isinstance(name, ast.Constant) else None
    return None
