"""Asking the API server several things at once."""

import asyncio
import math
from collections.abc import Awaitable
from typing import Any

from rtj_operator.cluster import ClusterError, UnavailableError


async def together(*questions: Awaitable[Any]) -> list[Any]:
    """Return all answers, in the order of the questions.

    Where some fail, the others are waited for as well, and the error is raised of the one that must
    not be asked again for longest: who tries again asks them all.
    """
    answers = await asyncio.gather(*questions, return_exceptions=True)
    errors = [answer for answer in answers if isinstance(answer, BaseException)]
    if errors:
        raise max(errors, key=_pause_after)
    return answers


def _pause_after(error: BaseException) -> float:
    """Return the seconds until it may be asked again; a bug, or the end of all, goes first."""
    if isinstance(error, UnavailableError):
        return error.retry_after
    return 0.0 if isinstance(error, ClusterError) else math.inf
