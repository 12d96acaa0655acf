"""Passing over jobs that want nothing, wherever all jobs come by: at the start, and in a resync."""

from collections.abc import Mapping
from typing import Any

from pydantic import ValidationError

from rtj_operator import metrics
from rtj_operator.cluster import Key
from rtj_operator.core.rest import at_rest
from rtj_operator.parse import parse_job


def key_of(raw: Mapping[str, Any]) -> Key:
    """Return the name of a job."""
    return Key(raw["metadata"]["namespace"], raw["metadata"]["name"])


def passed_over(raw: Mapping[str, Any]) -> bool:
    """Whether the job needs no look; it is counted all the same.

    The object may be old, but then an event with a newer one, or the next resync, is on its way.
    """
    try:
        job = parse_job(dict(raw))
    except ValidationError:
        return False
    if not at_rest(job):
        return False
    metrics.JOBS.saw(key_of(raw), job.status)
    return True
