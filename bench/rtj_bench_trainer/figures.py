"""From samples to medians and their spread, through lists and objects alike."""

import statistics
from collections.abc import Callable, Mapping, Sequence
from typing import Any

_DIGITS = 4


def summary(samples: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return the medians of each key over the repeats, and under `spread` smallest and largest.

    Args:
        samples: One of each repeat. A value is a number, null if it could not be measured, or a
            list or an object of such. A figure that one repeat lacks is null.
    """
    medians = {key: _over(statistics.median, [s[key] for s in samples]) for key in samples[0]}
    spread = {key: _over(_extremes, [s[key] for s in samples]) for key in samples[0]}
    return {**medians, "spread": spread}


def has_null(value: Any) -> bool:
    """Return whether anything in it could not be measured."""
    if isinstance(value, Mapping):
        return any(has_null(item) for item in value.values())
    if isinstance(value, list):
        return any(has_null(item) for item in value)
    return value is None


def _over(function: Callable[[list[Any]], Any], values: list[Any]) -> Any:
    if any(value is None for value in values):
        return None
    if isinstance(values[0], Mapping):
        return {key: _over(function, [value[key] for value in values]) for key in values[0]}
    if isinstance(values[0], list):
        return [_over(function, list(column)) for column in zip(*values, strict=True)]
    return _rounded(function(values))


def _extremes(values: list[float]) -> list[float]:
    return [min(values), max(values)]


def _rounded(value: Any) -> Any:
    return [_rounded(item) for item in value] if isinstance(value, list) else round(value, _DIGITS)
