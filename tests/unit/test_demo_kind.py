"""The demo on kind, with stand-ins for Docker and kind: what it leaves, reuses and frees."""

import json
from pathlib import Path
from typing import Any

import pytest
from rtj_demo import kind
from rtj_demo.kind import KindCluster, take_down_what_is_left

pytestmark = pytest.mark.unit

DOCKER = """#!/bin/bash
case "$1 $2" in
  "image inspect") echo sha256:of-the-operator ;;
  "exec "*) shift 2; exec "${@/#\\/rtj-shared/$VOLUMES}" ;;
esac
"""
IDLE = "#!/bin/sh\n"


class Volumes:
    """An API server that keeps volumes, and changes none that is there already."""

    kubeconfig = Path("kubeconfig")

    def __init__(self) -> None:
        self.there: dict[str, Any] = {}

    def run(self, *arguments: str) -> str:
        if arguments[:2] == ("delete", "pv"):
            del self.there[arguments[2]]
        return json.dumps({"items": list(self.there.values())})

    def apply(self, *objects: dict[str, Any]) -> None:
        for found in objects:
            if found["kind"] == "PersistentVolume":
                self.there.setdefault(found["metadata"]["name"], found)


@pytest.fixture
def cluster(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> KindCluster:
    for tool in ("docker", "kind", "kubectl", "helm"):
        program = tmp_path / "bin" / tool
        program.parent.mkdir(exist_ok=True)
        program.write_text(DOCKER if tool == "docker" else IDLE)
        program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:/usr/bin:/bin")
    monkeypatch.setenv("VOLUMES", str(tmp_path / "state" / "volumes"))
    monkeypatch.setattr(kind, "STATE", tmp_path / "state")
    cluster: Any = KindCluster()
    cluster.kube = Volumes()
    found: KindCluster = cluster
    return found


def test_a_volume_that_had_a_claim_is_empty_and_free_again(cluster: Any) -> None:
    cluster.up()
    used, kept = cluster.kube.there["rtj-shared-0"], cluster.kube.there["rtj-shared-1"]
    used["status"], kept["status"] = {"phase": "Released"}, {"phase": "Bound"}
    for number in (0, 1):
        folder = kind.STATE / "volumes" / f"pv-{number}" / "job"
        folder.mkdir()
        (folder / "commit").touch()

    cluster.up()

    volumes = cluster.kube.there
    assert [volume.get("status") for volume in volumes.values()].count({"phase": "Released"}) == 0
    assert len(volumes) == kind.VOLUMES
    assert volumes["rtj-shared-1"] is kept
    assert list((kind.STATE / "volumes" / "pv-0").iterdir()) == []
    assert list((kind.STATE / "volumes" / "pv-1").iterdir()) != []


def test_an_operator_that_was_built_again_under_its_tag_is_told_apart(cluster: Any) -> None:
    assert cluster.provide_images().operator_digest == "sha256:of-the-operator"


def test_what_a_demo_left_is_taken_down_and_where_none_ran_nothing_is_needed(
    cluster: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    cluster.up()
    take_down_what_is_left()
    assert not kind.STATE.exists()

    monkeypatch.setenv("PATH", "")
    take_down_what_is_left()
