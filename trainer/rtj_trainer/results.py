"""The numbers that an epoch ends with: what callbacks are given, and what the log says."""

import math
from typing import Any

from rtj_trainer.plain import as_array


def results(model: Any, logs: Any) -> dict[str, Any]:
    """Return the model's metrics, or what its last step returned if that is something else.

    That is what `model.fit` gives to callbacks.

    Args:
        model: The trained model.
        logs: What the last `train_step` or `test_step` returned.
    """
    own = as_numbers(logs)
    try:
        metrics = as_numbers(model.get_metrics_result())
    except ValueError:  # A train_step of the user's may leave the compiled metrics alone.
        return own
    return metrics if own.keys() == metrics.keys() or not own else own


def as_numbers(logs: Any) -> dict[str, Any]:
    """Return tensors of one element as Python numbers, others as arrays."""
    if not isinstance(logs, dict):
        return {}
    values = {name: as_array(value) for name, value in logs.items()}
    return {name: value.item() if value.size == 1 else value for name, value in values.items()}


def plain_numbers(values: dict[str, Any]) -> dict[str, float]:
    """Return the results that are finite numbers, which can be compared."""
    return {
        name: float(value)
        for name, value in values.items()
        if isinstance(value, int | float) and math.isfinite(value)
    }


def as_text(values: dict[str, Any]) -> str:
    """Return results for the log."""
    return ", ".join(
        f"{name} {value:.4g}" if isinstance(value, float) else f"{name} {value}"
        for name, value in values.items()
    )
