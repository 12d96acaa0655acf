"""Laying one set of pod fields over another."""

from typing import Any


def laid_over(under: dict[str, Any], over: dict[str, Any]) -> dict[str, Any]:
    """Return both, nested maps merged, with `over` winning wherever both say something."""
    merged = dict(under)
    for key, value in over.items():
        old = merged.get(key)
        if isinstance(old, dict) and isinstance(value, dict):
            merged[key] = laid_over(old, value)
        else:
            merged[key] = value
    return merged


def by_name(
    under: list[dict[str, Any]], over: list[dict[str, Any]], key: str = "name"
) -> list[dict[str, Any]]:
    """Return the items of `over`, after those of `under` that they do not replace."""
    taken = {item[key] for item in over}
    return [*(item for item in under if item.get(key) not in taken), *over]
