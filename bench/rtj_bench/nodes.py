"""A real node goes under a job of ours and a batch/v1 Job: how fast each has another pod that runs.

The node is drained, or killed and taken out of the cluster, or just killed. Real kubelets, real
containers, the defaults of the chart. The Job tolerates a dead node for 5 s instead of 300 and has
no podFailurePolicy, which is the fastest that a Job can be had: with the policy it waits for the
pod of the dead node to go, which takes minutes.
"""

import asyncio
import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from rtj_demo.dev import build_images, kube_of
from rtj_demo.install import NAMESPACE as OPERATOR_NAMESPACE
from rtj_demo.install import install_operator
from rtj_demo.jobs import load_example, submit
from rtj_demo.kube import Kube, wait_for
from rtj_devcluster import services, slots
from rtj_devcluster.cluster import Cluster, ClusterOptions

from rtj_bench.api import Api
from rtj_bench.figures import Figures
from rtj_bench.population import JobKey
from rtj_bench.say import say
from rtj_bench.sight import Sight

NAME = "bench"
NAMESPACE = "nodes"
OURS = JobKey(True, NAMESPACE, "ours")
THEIRS = JobKey(False, NAMESPACE, "theirs")
RUNNING_WITHIN_SECONDS = 180.0
TOLERATION_SECONDS = 5


def _delete(cluster: Cluster, node: str) -> None:
    cluster.kill_node(node)
    cluster.kubectl("delete", "node", node, "--wait=false")


STRIKES: dict[str, Callable[[Cluster, str], None]] = {
    "drained": Cluster.drain,
    "deletednode": _delete,
    "deadnode": Cluster.kill_node,
}
"""How a node goes, by the beginning of the names of its figures."""


async def measure(repeats: int, figures: Figures) -> None:
    """Fill in all figures about nodes that go."""
    with _cluster() as cluster:
        kube = kube_of(cluster)
        kube.run("create", "namespace", NAMESPACE)
        slot = slots.of_cluster(NAME)
        assert slot is not None, "the cluster is down"  # noqa: S101
        async with Api(services.server(slot.addresses), cluster.folder / "pki") as api:
            for _ in range(repeats):
                for how in STRIKES:
                    values = await _repeat(cluster, kube, api, how)
                    figures.add(values)
                    say(", ".join(f"{key} {value:.1f}" for key, value in values.items()))


@contextmanager
def _cluster() -> Iterator[Cluster]:
    cluster = Cluster(NAME)
    cluster.down()  # What a killed run may have left.
    try:
        cluster.up(ClusterOptions(nodes=2))
        images = build_images()
        cluster.sync_images()
        install_operator(kube_of(cluster), images)
        say("the dev cluster is up, the operator installed")
        yield cluster
    finally:
        cluster.down()


async def _repeat(cluster: Cluster, kube: Kube, api: Api, how: str) -> dict[str, float]:
    survivor = _node_of_leader(kube)
    victim = next(name for name in cluster.node_names if name != survivor)
    sight = Sight()
    await sight.open(api)
    # Both pods begin on the node that goes; afterwards each may go wherever it can.
    kube.run("cordon", survivor)
    try:
        job = submit(kube, NAMESPACE, _ours())
        kube.apply(_theirs())
        await asyncio.to_thread(job.wait_until, "it commits", lambda now: "lastCommit" in now)
        await sight.until("the Job runs", lambda: sight.running(THEIRS) is not None, 60)
        kube.run("uncordon", survivor)
        return await _strike(cluster, victim, how, sight)
    finally:
        sight.close()
        kube.run("uncordon", survivor)
        kube.run("delete", "rtj,job", "--all", "-n", NAMESPACE, "--wait=false")
        await asyncio.to_thread(cluster.add_node, victim)
        _until_all_is_well(kube)


async def _strike(cluster: Cluster, victim: str, how: str, sight: Sight) -> dict[str, float]:
    """Take the node away, and return the seconds until its pods have successors."""
    ours, theirs = sight.running(OURS), sight.running(THEIRS)
    if ours is None or theirs is None:
        raise RuntimeError("a pod has gone before its node went")
    struck = time.monotonic()
    strike = asyncio.create_task(asyncio.to_thread(STRIKES[how], cluster, victim))

    def both_run() -> bool:
        successors = sight.successor(OURS, ours), sight.successor(THEIRS, theirs)
        return all(successor and successor.running for successor in successors)

    await sight.until("both run again", both_run, RUNNING_WITHIN_SECONDS)
    await strike
    mine, peer = sight.successor(OURS, ours), sight.successor(THEIRS, theirs)
    values: dict[str, float] = {}
    if how == "drained" and mine and mine.running and ours.ended:
        # A trainer that is asked to stop commits and ends: what is left is not its own.
        values["drained_after_commit_s"] = mine.running - ours.ended
    return {
        **values,
        f"{how}_created_s": mine.created - struck if mine else math.nan,
        f"{how}_running_s": mine.running - struck if mine and mine.running else math.nan,
        f"job_{how}_running_s": peer.running - struck if peer and peer.running else math.nan,
    }


def _node_of_leader(kube: Kube) -> str:
    def node() -> str | None:
        lease = kube.get("leases", "rtj-rtj-operator", OPERATOR_NAMESPACE)
        holder = lease["spec"]["holderIdentity"]
        pods = kube.list("pods", OPERATOR_NAMESPACE)
        return next((p["spec"]["nodeName"] for p in pods if p["metadata"]["name"] in holder), None)

    return wait_for("a leader among the operator's pods", node, 60)


def _until_all_is_well(kube: Kube) -> None:
    """Wait until the next repeat finds both nodes empty, and an operator on each."""
    wait_for("the old pods to go", lambda: not kube.list("pods", NAMESPACE), 120)
    deployment = ("deployment/rtj-rtj-operator", "-n", OPERATOR_NAMESPACE)
    kube.run("rollout", "status", *deployment, "--timeout=180s")
    pods = kube.list("pods", OPERATOR_NAMESPACE)
    if len({pod["spec"].get("nodeName") for pod in pods}) < 2:
        kube.run("rollout", "restart", *deployment)
        kube.run("rollout", "status", *deployment, "--timeout=180s")


def _ours() -> list[dict[str, Any]]:
    def last_long(job: dict[str, Any]) -> None:
        job["spec"]["epochs"] = 1_000_000

    return load_example("iterator", OURS.name, last_long)


def _theirs() -> dict[str, Any]:
    dead = [f"node.kubernetes.io/{how}" for how in ("not-ready", "unreachable")]
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {"name": THEIRS.name, "namespace": NAMESPACE},
        "spec": {
            "backoffLimit": 100,
            "template": {
                "spec": {
                    "terminationGracePeriodSeconds": 1,
                    "restartPolicy": "Never",
                    "tolerations": [
                        {
                            "key": key,
                            "operator": "Exists",
                            "effect": "NoExecute",
                            "tolerationSeconds": TOLERATION_SECONDS,
                        }
                        for key in dead
                    ],
                    "containers": [
                        {
                            "name": "trainer",
                            "image": _ours()[-1]["spec"]["trainer"]["image"],
                            "imagePullPolicy": "IfNotPresent",
                            "command": ["sleep", "infinity"],
                        }
                    ],
                }
            },
        },
    }
