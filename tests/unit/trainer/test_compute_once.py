"""What is computed once during an import is the same, and nothing is remembered after it."""

import inspect
import typing
from collections.abc import Callable
from typing import Any

import pytest
from rtj_trainer import compute_once
from rtj_trainer.compute_once import computing_once

pytestmark = pytest.mark.unit


def pair(first: int, second: "str" = "b", *, third: bool = False) -> None:
    """Have a signature."""


def test_a_signature_is_computed_once_and_the_same() -> None:
    expected = inspect.signature(pair), inspect.getfullargspec(pair)
    counted: list[Callable[..., Any]] = []
    signature = inspect._signature_from_function  # type: ignore[attr-defined]

    def counting(cls: type, func: Callable[..., Any], **options: Any) -> Any:
        counted.append(func)
        return signature(cls, func, **options)

    inspect._signature_from_function = counting  # type: ignore[attr-defined]
    try:
        with computing_once():
            found = [(inspect.signature(pair), inspect.getfullargspec(pair)) for _ in range(3)]
        assert inspect._signature_from_function is counting  # type: ignore[attr-defined]
    finally:
        inspect._signature_from_function = signature  # type: ignore[attr-defined]
    assert found == [expected] * 3
    assert counted.count(pair) <= 2, "with and without what a bound argument is"


def test_an_annotation_is_compiled_once_and_means_the_same() -> None:
    with computing_once():
        both = [typing.ForwardRef("list[int]") for _ in range(2)]
        with pytest.raises(SyntaxError, match="Forward reference must be an expression"):
            typing.ForwardRef("no expression")
    assert both[0].__forward_code__ is both[1].__forward_code__
    assert typing.ForwardRef("list[int]").__forward_code__ is not both[0].__forward_code__
    assert (
        typing.get_type_hints(type("A", (), {"__annotations__": {"a": both[0]}}))["a"] == list[int]
    )


def test_nothing_is_remembered_after_an_import_that_fails() -> None:
    with pytest.raises(RuntimeError), computing_once():
        raise RuntimeError
    assert "compile" not in vars(typing)


def test_another_version_of_python_computes_as_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compute_once, "_SIGNATURE", "_not_there")
    with computing_once():
        assert str(inspect.signature(pair)).startswith("(first: int")
    assert not hasattr(inspect, "_not_there")
