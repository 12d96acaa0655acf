"""Passing over jobs that want nothing, wherever all jobs come by: at the start, and in a resync."""

from collections.abc import Mapping
from typing import Any

from pydantic import ValidationError

from rtj_operator import metrics
from rtj_operator.cluster import Key
from rtj_operator.core.rest import at_rest
from rtj_operator.memory import Memory
from rtj_operator.parse import parse_job


def key_of(raw: Mapping[str, Any]) -> Key:
    """Return the name of a job."""
    return Key(raw["metadata"]["namespace"], raw["metadata"]["name"])


def passed_over(raw: Mapping[str, Any], memory: Memory) -> bool:
    """Whether the job needs no look; it is counted all the same.

    The object may be old, as one on a page that was read long ago; a job that is known to be at
    work is not passed over, whatever it says. Else an event with a newer one, or the next resync,
    is on its way. One that has not changed since it was passed over is not even read: no clock of
    it runs.
    """
    key, version = key_of(raw), raw["metadata"]["resourceVersion"]
    if memory.sightings.of(key) or _left_a_pod(raw, memory):
        return False
    if memory.resting.get(key) == version:
        return True
    try:
        job = parse_job(dict(raw))
    except ValidationError:
        return False
    if not at_rest(job):
        return False
    metrics.JOBS.saw(key, job.status)
    memory.rests(key, version)
    return True


def _left_a_pod(raw: Mapping[str, Any], memory: Memory) -> bool:
    """Whether a pod of the job was seen that still runs, though the job may have ended.

    A process that died between writing the end of a job and deleting its pod left it behind.
    """
    pods = memory.sightings.pods_of(key_of(raw), raw["metadata"]["uid"])
    return not all(pod.spent for pod in pods)
