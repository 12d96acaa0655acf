"""The node that integration tests play does the same, however many of its requests fail."""

import asyncio
import json
import random
from collections.abc import Callable
from typing import Any

import pytest
from rtj_api.names import ANNOTATION_HEARTBEAT, LABEL_ATTEMPT, LABEL_JOB, ExitCode
from rtj_operator.cluster import LEASES, PODS, Manifest, UnavailableError

from tests.integration.operator_world import PlayedNode
from tests.model.memory_cluster import MemoryCluster
from tests.unit.leaping_time import leaping

pytestmark = pytest.mark.unit

NAMESPACE = "space"


class LossyCluster(MemoryCluster):
    """Half of the requests fail; of half of those only the answer is lost."""

    chance: random.Random | None = None

    def _call(self, effect: Callable[[], Any]) -> Any:
        fate = self.chance.random() if self.chance else 1.0
        if fate < 0.25:
            raise UnavailableError("the request is lost")
        answer = super()._call(effect)
        if fate < 0.5:
            raise UnavailableError("the answer is lost")
        return answer


@leaping
@pytest.mark.parametrize("seed", range(8))
async def test_each_step_and_the_end_are_told_though_requests_fail(seed: int) -> None:
    cluster, told, ended = LossyCluster(), list[int](), asyncio.Event()

    def changed(_: str, kind: str, manifest: Manifest) -> None:
        beat = manifest["metadata"].get("annotations", {}).get(ANNOTATION_HEARTBEAT)
        if kind == LEASES.kind and beat:
            told.append(json.loads(beat)["position"]["step"])
        if kind == PODS.kind and manifest["status"]["phase"] == "Failed":
            ended.set()

    cluster.changed = changed
    node = PlayedNode(cluster, NAMESPACE, preempted_at={1: 3}, job="job")
    cluster.chance = random.Random(seed)  # noqa: S311 - which request fails is no secret
    playing = asyncio.create_task(node.live())
    cluster.put(LEASES.kind, NAMESPACE, {"metadata": {"name": "job"}, "spec": {}})
    labels = {LABEL_JOB: "job", LABEL_ATTEMPT: "1"}
    pod = cluster.put(
        PODS.kind,
        NAMESPACE,
        {
            "metadata": {"name": "job-1-0", "labels": labels},
            "spec": {"nodeName": node.name},
            "status": {"phase": "Pending"},
        },
    )
    await asyncio.wait_for(ended.wait(), 60)
    playing.cancel()
    (container,) = cluster.read(PODS.kind, NAMESPACE, "job-1-0")["status"]["containerStatuses"]
    assert container["state"]["terminated"]["exitCode"] == ExitCode.PREEMPTED
    assert sorted(set(told)) == [1, 2, 3]
    assert told == sorted(told)
    assert node.steps == {1: 3}
    assert node.containers == [pod["metadata"]["uid"]]
