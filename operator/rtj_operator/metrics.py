"""What Prometheus reads at /metrics; `docs/operator.md` has the table.

Counters are moved only after the status write that holds the decision has succeeded. A turn that
is taken again finds that status and counts nothing, so a count may miss (the process was killed, or
the answer to the write was lost) but is never doubled.
"""

from collections.abc import Iterable
from datetime import UTC, datetime
from typing import TypeVar

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    ProcessCollector,
    disable_created_metrics,
)
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector
from rtj_api.names import Cause, Phase
from rtj_api.status import JobStatus

from rtj_operator.cluster import Key
from rtj_operator.core.lost import ended_between
from rtj_operator.core.timekeeping import goodput, seconds_between

disable_created_metrics()  # type: ignore[no-untyped-call]
REGISTRY = CollectorRegistry()
ProcessCollector(registry=REGISTRY)

T = TypeVar("T")

TURN_BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)

RESTARTS = Counter(
    "rtj_restarts_total",
    "Attempts that ended and were followed by another.",
    ["cause"],
    registry=REGISTRY,
)
LOST_SECONDS = Counter(
    "rtj_lost_seconds_total",
    "Seconds of training after the newest commit of an attempt that ended.",
    ["cause"],
    registry=REGISTRY,
)
TIME = Counter(
    "rtj_time_seconds_total",
    "Seconds of jobs by what they were spent on, counted when an attempt or a pause is over.",
    ["kind"],
    registry=REGISTRY,
)
RECONCILE = Histogram(
    "rtj_reconcile_duration_seconds",
    "Seconds that one look at one job took.",
    ["result"],
    registry=REGISTRY,
    buckets=TURN_BUCKETS,
)
REQUESTS = Counter(
    "rtj_api_requests_total",
    "Requests to the API server, without the watches.",
    ["verb", "resource", "code"],
    registry=REGISTRY,
)
QUEUE_DEPTH = Gauge("rtj_queue_depth", "Jobs that wait for a worker.", registry=REGISTRY)
EVENTS_WAITING = Gauge("rtj_events_waiting", "Events that are yet to be posted.", registry=REGISTRY)
LEADER = Gauge("rtj_leader", "1 in the process that leads, 0 in one that waits.", registry=REGISTRY)

RESTARTING_CAUSES = (Cause.PREEMPTED, Cause.USER_ERROR, Cause.HUNG)
LOSING_CAUSES = (*RESTARTING_CAUSES, Cause.PERMANENT, Cause.SUSPENDED)
# A rate needs the zero before the first.
for _cause in RESTARTING_CAUSES:
    RESTARTS.labels(_cause)
for _cause in LOSING_CAUSES:
    LOST_SECONDS.labels(_cause)
for _kind in seconds_between(JobStatus(), JobStatus()):
    TIME.labels(_kind)


def count(before: JobStatus, after: JobStatus) -> None:
    """Count what a status write made true; call it once for each that succeeded."""
    for kind, seconds in seconds_between(before, after).items():
        TIME.labels(kind).inc(seconds)
    ended = ended_between(before, after)
    if ended is None:
        return
    if ended.cause in LOSING_CAUSES and ended.time:
        LOST_SECONDS.labels(ended.cause).inc(ended.time.lost_seconds)
    if after.restarts.total > before.restarts.total:
        RESTARTS.labels(ended.cause).inc()


class Jobs(Collector):
    """Gauges over the jobs that exist, made when Prometheus asks: an age grows by itself."""

    def __init__(self) -> None:
        self._phases: dict[Key, Phase] = {}
        self._commits: dict[Key, datetime] = {}
        """Of jobs at work only, so there are never more series than those."""
        self._goodput: dict[Key, float] = {}
        """Of the same jobs."""

    def saw(self, key: Key, status: JobStatus) -> None:
        """Note the newest status of a job."""
        self._phases[key] = status.phase
        idle = status.phase.final or status.phase is Phase.SUSPENDED
        commit, time = status.last_commit, status.time
        _keep(self._commits, key, commit.time if commit and not idle else None)
        _keep(self._goodput, key, goodput(time) if time and not idle else None)

    def forget(self, key: Key) -> None:
        """Drop a job that is gone."""
        for known in (self._phases, self._commits, self._goodput):
            known.pop(key, None)

    def known(self) -> tuple[Key, ...]:
        """Return every job that is counted."""
        return tuple(self._phases)

    def collect(self) -> Iterable[GaugeMetricFamily]:
        """Return the gauges as they are now."""
        jobs = GaugeMetricFamily("rtj_jobs", "Jobs by phase.", labels=["phase"])
        phases = list(self._phases.values())
        for phase in Phase:
            jobs.add_metric([phase], phases.count(phase))
        yield jobs
        ages = GaugeMetricFamily(
            "rtj_job_checkpoint_age_seconds",
            "Seconds since the newest commit of a job that is neither finished nor suspended.",
            labels=["namespace", "name"],
        )
        now = datetime.now(UTC)
        for key, time in self._commits.items():
            ages.add_metric([key.namespace, key.name], max((now - time).total_seconds(), 0.0))
        yield ages
        shares = GaugeMetricFamily(
            "rtj_job_goodput_ratio",
            "Useful share of the time of a job that is neither finished nor suspended.",
            labels=["namespace", "name"],
        )
        for key, share in self._goodput.items():
            shares.add_metric([key.namespace, key.name], share)
        yield shares


def _keep(values: dict[Key, T], key: Key, value: T | None) -> None:
    if value is None:
        values.pop(key, None)
    else:
        values[key] = value


JOBS = Jobs()
REGISTRY.register(JOBS)
