"""Nodes die, as by a power cut, at ten moments; one is cut off, and writes on for a minute.

Each moment is told from what the trainer has put on its volume, which is exact to milliseconds, and
the node's processes are then all killed. A reference run without a cluster keeps every one of its
commits, so that not only the final weights are compared but those of each commit that survived.

Most of the time passes until a death is noticed, so two pairs of nodes die side by side.
"""

import contextlib
import json
import time
import uuid
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from rtj_demo.jobs import Job, submit
from rtj_demo.kube import Kube, wait_for
from rtj_devcluster.cluster import Cluster
from rtj_trainer.ledger import committed_trajectory

from tests.e2e.moments import EARLY, LATE, Moment, Sight, blind, heavy
from tests.e2e.support import (
    Reference,
    commits,
    final_commit,
    job_folder,
    sigkill_trainer,
    start_reference,
    trainer_pids,
)

pytestmark = pytest.mark.e2e

NOTICED_SECONDS = 180
"""The rule is 12 to 15 s, also if the operator's leader dies with the node. It begins anew with the
next operator process, should the last one die while another node's is still on its way back. The
cluster itself takes 50 s to say that a node is not ready. A busy machine may be slower with all."""


@dataclass(frozen=True)
class Scene:
    """Where all of it happens."""

    kube: Kube
    cluster: Cluster
    namespace: str

    def submit(self, objects: list[dict[str, Any]]) -> tuple[Job, Path]:
        """Return the job, and its folder on its claim."""
        job = submit(self.kube, self.namespace, objects)
        return job, job_folder(job)

    def await_replaced(self, job: Job, attempt: int, node: str, how: str) -> bool:
        """Wait for the attempt after this one; say whether it came before the cluster noticed."""
        struck = time.monotonic()
        job.wait_until(
            f"the attempt after the one that was struck {how}",
            lambda s: s.get("attempt", {}).get("number", 0) > attempt,
            NOTICED_SECONDS,
        )
        print(f"struck {how}: next attempt after {time.monotonic() - struck:.1f} s")  # noqa: T201
        conditions = self.cluster.get("node", node)["status"]["conditions"]
        ready = next(c["status"] for c in conditions if c["type"] == "Ready")
        return bool(ready == "True")


def _await_moment(sight: Sight, moment: Moment) -> None:
    """Return within milliseconds of the moment, so that it is still that moment."""
    deadline = time.monotonic() + 180
    while not moment(sight):
        if time.monotonic() > deadline:
            raise TimeoutError(
                f"attempt {sight.attempt} never came to that moment: {sight.job.status()}"
            )
        time.sleep(0.002)


@dataclass(frozen=True)
class Deaths:
    """A job that lost its node at each of some moments, and came to its end."""

    job: Job
    before_the_cluster: list[bool]
    """Of each death: whether the operator noticed it first."""


def _kill_at(scene: Scene, name: str, nodes: list[str], moments: dict[str, Moment]) -> Deaths:
    """Run a job to its end, on two nodes that die in turn, each at one of the moments."""
    job, folder = scene.submit(heavy(name, nodes))
    first = []
    for attempt, (when, moment) in enumerate(moments.items(), start=1):
        sight = Sight(job, folder, attempt)
        job.wait_until(f"attempt {attempt} to have a node", lambda _, s=sight: s.has_a_node(), 90)
        node = job.node_name()
        _await_moment(sight, moment)
        scene.cluster.kill_node(node)
        first.append(scene.await_replaced(job, attempt, node, when))
        scene.cluster.add_node(node)
    job.wait_for_end()
    return Deaths(job, first)


@dataclass(frozen=True)
class Minute:
    """What a stale attempt did after its successor had begun."""

    job: Job
    written: dict[int, str]
    """Its commits that were there in that time: digest of the state by step."""
    ahead: int
    """Its newest commit when the third attempt chose where to start, as a step."""


def _write_for_a_minute(scene: Scene, name: str, nodes: list[str]) -> Minute:
    """Cut a node off, and kill the successor as soon as there is something to choose from."""
    job, folder = scene.submit(blind(name, nodes))
    first, second, third = (Sight(job, folder, attempt) for attempt in (1, 2, 3))
    wait_for("a first commit", lambda: first.last_commit() > 0, 180)
    node = job.node_name()
    stale = trainer_pids(job.kube.get("pods", job.pod_name(), job.namespace)["metadata"]["uid"])
    scene.cluster.partition(node)
    scene.await_replaced(job, 1, node, "by a cut cable")

    wait_for("the successor's first commit", lambda: second.last_commit() > 0, 180)
    sigkill_trainer(job)
    began, written, ahead = second.start_record.stat().st_ctime, {}, 0
    while any(Path(f"/proc/{pid}").exists() for pid in stale):
        assert time.time() < began + 240, "it never found its successor's fence"
        for step, commit in first.commits().items():
            # Its successor sweeps such commits away.
            with contextlib.suppress(FileNotFoundError):
                if step not in written:
                    manifest = json.loads((commit / "manifest.json").read_text())
                    written[step] = manifest["stateSha256"]
        if not third.chose_its_start():
            ahead = first.last_commit()
        time.sleep(0.05)
    scene.cluster.heal(node)
    job.wait_for_end()
    return Minute(job, written, ahead)


def _compare(job: Job, reference: Path, since: int = 1) -> None:
    """Compare all commits of the attempts from `since` on, and what was trained on, in order."""
    folder = job_folder(job)
    assert committed_trajectory(folder) == committed_trajectory(reference)
    expected = commits(reference)
    status = job.status()
    for attempt in range(since, status["attempts"][-1]["number"] + 1):
        for step, commit in Sight(job, folder, attempt).commits().items():
            sha256 = json.loads((commit / "manifest.json").read_text())["stateSha256"]
            assert sha256 == expected[step]["stateSha256"], f"weights of {commit.name}"
    assert (last := final_commit(reference))["complete"]
    assert status["lastCommit"]["step"] == last["step"]
    done = folder / "commits" / status["lastCommit"]["id"] / "manifest.json"
    assert json.loads(done.read_text())["stateSha256"] == last["stateSha256"]


@dataclass(frozen=True)
class Outcome:
    """A scene that is being played, and what its jobs are compared with."""

    played: Future[Any]
    reference: Reference


@pytest.fixture(scope="module")
def two_pairs_of_nodes(operator: None, cluster: Cluster, kube: Kube) -> Iterator[list[list[str]]]:
    """Begin with an operator on both nodes, and leave it so, however the tests end."""
    _spread_operators(cluster, kube)
    ours = cluster.node_names[:2]
    added: list[str] = []
    try:
        with ThreadPoolExecutor() as pool:
            added += pool.map(lambda _: cluster.add_node(), range(2))
        yield [ours, added]
    finally:
        for node in added:
            cluster.delete_node(node)
        _spread_operators(cluster, kube)


def _spread_operators(cluster: Cluster, kube: Kube) -> None:
    """A test before this one may have taken a node away, and with it the place of an operator."""
    for node in cluster.node_names:
        cluster.add_node(node)
    deployment = ("deployment/rtj-rtj-operator", "-n", "rtj-system")
    kube.run("rollout", "status", *deployment, "--timeout=180s")
    pods = kube.list("pods", "rtj-system", "app.kubernetes.io/name=rtj-operator")
    if len({pod["spec"]["nodeName"] for pod in pods}) < 2:
        kube.run("rollout", "restart", *deployment)
        kube.run("rollout", "status", *deployment, "--timeout=180s")


@pytest.fixture(scope="module")
def outcomes(
    two_pairs_of_nodes: list[list[str]],
    kube: Kube,
    cluster: Cluster,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[dict[str, Outcome]]:
    """Play all of it side by side, with the references in the pauses."""
    scene = Scene(kube, cluster, f"test-{uuid.uuid4().hex[:8]}")
    kube.run("create", "namespace", scene.namespace)
    ours, added = two_pairs_of_nodes
    of_heavy = start_reference(heavy("late", added), tmp_path_factory.mktemp("heavy"))
    of_blind = start_reference(blind("blind", added), tmp_path_factory.mktemp("blind"))
    with ThreadPoolExecutor() as pool, ThreadPoolExecutor(1) as one_after_another:
        early = pool.submit(_kill_at, scene, "early", ours, EARLY)
        minute = one_after_another.submit(_write_for_a_minute, scene, "blind", added)
        late = one_after_another.submit(_kill_at, scene, "late", added, LATE)
        yield {
            "early": Outcome(early, of_heavy),
            "late": Outcome(late, of_heavy),
            "minute": Outcome(minute, of_blind),
        }
    kube.run("delete", "namespace", scene.namespace, "--wait=false")


def test_a_cut_off_writer_that_sees_no_fence_for_a_minute_changes_nothing(
    outcomes: dict[str, Outcome],
) -> None:
    outcome = outcomes["minute"]
    minute: Minute = outcome.played.result()
    reference = outcome.reference.finish()
    expected = commits(reference)
    # They were whole, they were wrong, and they were ahead: nothing but the lineage tells.
    wrong = {s for s, sha256 in minute.written.items() if sha256 != expected[s]["stateSha256"]}
    assert len(wrong) > 30, "it did not write all that time"
    assert wrong == {step for step in minute.written if step >= min(wrong)}
    folder = job_folder(minute.job)
    start = json.loads(Sight(minute.job, folder, 3).start_record.read_text())["startsFrom"]
    step, writer = start.split("-")[:2]
    assert writer == "000002"
    assert minute.ahead > int(step)

    status = minute.job.status()
    assert status["phase"] == "Completed"
    reasons = [attempt["reason"] for attempt in status["attempts"]]
    assert reasons == ["NodeLost", "TrainerPreempted", "Completed"]
    _compare(minute.job, reference, since=2)


@pytest.mark.parametrize(
    ("name", "moments"), [("early", EARLY), ("late", LATE)], ids=["early", "late"]
)
def test_a_node_may_die_at_any_moment(
    name: str, moments: dict[str, Moment], outcomes: dict[str, Outcome]
) -> None:
    outcome = outcomes[name]
    deaths: Deaths = outcome.played.result()
    status = deaths.job.status()
    assert status["phase"] == "Completed"
    assert status["restarts"]["preempted"] == len(moments)
    assert {a["reason"] for a in status["attempts"][:-1]} == {"NodeLost"}
    # Not of all: where the machine stalls, the operator does, too.
    assert any(deaths.before_the_cluster)
    _compare(deaths.job, outcome.reference.finish())
