"""What a cloud would do for its nodes and volumes: a process beside the control plane.

Level-triggered: every half second it looks at what is, and makes it what it
should be. So a restart, of this process or of a kubelet that forgot its GPUs,
needs no thought.

- A pending claim of the class ``shared`` gets a folder of this machine, which all
  nodes see, as a volume of its own; a volume that is released is deleted with it, unless
  it is to be retained.
- A node that is labelled to have GPUs gets them into its status.
"""

import argparse
import json
import shutil
import sys
import time
from pathlib import Path
from typing import Any

from kubernetes import client, config
from kubernetes.client.rest import ApiException
from urllib3.exceptions import HTTPError

from rtj_devcluster.manifests import PROVISIONER, STORAGE_CLASS
from rtj_devcluster.node_config import GPU_LABEL

GPU_RESOURCE = "nvidia.com/gpu"
_PERIOD_SECONDS = 0.5
_PROVISIONED_BY = "pv.kubernetes.io/provisioned-by"


def volume_for(claim: Any, folder: Path) -> dict[str, Any]:
    """Return the PersistentVolume for a claim; its name follows from the claim's uid."""
    meta = claim.metadata
    return {
        "apiVersion": "v1",
        "kind": "PersistentVolume",
        "metadata": {
            "name": f"pvc-{meta.uid}",
            "annotations": {_PROVISIONED_BY: PROVISIONER},
        },
        "spec": {
            "capacity": {"storage": claim.spec.resources.requests["storage"]},
            "accessModes": claim.spec.access_modes,
            "persistentVolumeReclaimPolicy": "Delete",
            "storageClassName": STORAGE_CLASS,
            "hostPath": {"path": str(folder), "type": "Directory"},
            "claimRef": {
                "apiVersion": "v1",
                "kind": "PersistentVolumeClaim",
                "namespace": meta.namespace,
                "name": meta.name,
                "uid": meta.uid,
            },
        },
    }


class Agent:
    """Looks after the volumes and GPUs of one cluster."""

    def __init__(self, core: Any, volumes: Path) -> None:
        self._core = core
        self._volumes = volumes

    def provision(self) -> None:
        """Make a volume for every pending claim that has none."""
        for claim in self._core.list_persistent_volume_claim_for_all_namespaces().items:
            ours = claim.spec.storage_class_name == STORAGE_CLASS
            if ours and claim.status.phase == "Pending" and not claim.spec.volume_name:
                self._make_volume(claim)

    def _make_volume(self, claim: Any) -> None:
        folder = self._volumes / f"{claim.metadata.namespace}-{claim.metadata.name}"
        folder = folder.with_name(f"{folder.name}-{claim.metadata.uid}")
        folder.mkdir(parents=True, exist_ok=True)
        # Pods run as any user, and hostPath volumes take no notice of fsGroup.
        folder.chmod(0o777)
        try:
            self._core.create_persistent_volume(volume_for(claim, folder))
        except ApiException as error:
            if error.status != 409:  # It is there: made in the last turn, not bound yet.
                raise

    def reclaim(self) -> None:
        """Delete every volume whose claim is gone, and its folder, unless it is to be kept."""
        for volume in self._core.list_persistent_volume().items:
            ours = (volume.metadata.annotations or {}).get(_PROVISIONED_BY) == PROVISIONER
            kept = volume.spec.persistent_volume_reclaim_policy != "Delete"
            if ours and not kept and volume.status.phase == "Released":
                shutil.rmtree(volume.spec.host_path.path, ignore_errors=True)
                self._core.delete_persistent_volume(volume.metadata.name)

    def provide_gpus(self) -> None:
        """Put the GPUs of each node into its status."""
        for node in self._core.list_node().items:
            wanted = (node.metadata.labels or {}).get(GPU_LABEL, "0")
            if wanted != (node.status.allocatable or {}).get(GPU_RESOURCE, "0"):
                gpus = {GPU_RESOURCE: wanted}
                patch = {"status": {"capacity": gpus, "allocatable": gpus}}
                self._core.patch_node_status(node.metadata.name, patch)

    def turn(self) -> bool:
        """Look after them once; say whether nothing failed."""
        well = True
        for task in (self.provision, self.reclaim, self.provide_gpus):
            try:
                task()
            except (ApiException, HTTPError, OSError) as error:
                # The next turn looks again.
                note = {"time": time.time(), "task": task.__name__, "error": str(error)}
                sys.stderr.write(json.dumps(note) + "\n")
                well = False
        return well

    def run(self, ready: Path) -> None:
        """Look after them for ever, and make the file ``ready`` when it has gone well."""
        while True:
            if self.turn():
                ready.touch()
            time.sleep(_PERIOD_SECONDS)


def main() -> None:
    """Run the agent; never returns."""
    parser = argparse.ArgumentParser(description="Looks after volumes and GPUs.")
    parser.add_argument("--kubeconfig", required=True)
    parser.add_argument("--volumes", required=True, type=Path)
    parser.add_argument("--ready", required=True, type=Path)
    arguments = parser.parse_args()
    config.load_kube_config(arguments.kubeconfig)
    Agent(client.CoreV1Api(), arguments.volumes).run(arguments.ready)


if __name__ == "__main__":
    main()
