"""What a full cluster runs on the host: the control plane, a scheduler, a DNS and the agent."""

import json
import sys

from rtj_devcluster import kubectl, manifests, processes
from rtj_devcluster.addresses import API_SERVER_PORT, SCHEDULER_PORT, Addresses
from rtj_devcluster.control_plane import ControlPlane
from rtj_devcluster.pki import Pki


def server(addresses: Addresses) -> str:
    """Return the URL of the API server, as nodes, pods and the host reach it."""
    return f"https://{addresses.gateway}:{API_SERVER_PORT}"


def start(plane: ControlPlane, addresses: Addresses) -> None:
    """Start what does not run yet; the bridge must be there. Return when the API is ready."""
    plane.start(addresses, bind=addresses.gateway, advertise=addresses.gateway, owned=False)
    _start_scheduler(plane, addresses)
    corefile = plane.folder / "Corefile"
    corefile.write_text(manifests.corefile(addresses, str(plane.kubeconfig)))
    plane.run_component("coredns", [f"-conf={corefile}"])
    _start_agent(plane)
    objects = json.dumps(manifests.system_objects(addresses))
    kubectl.call(plane.kubeconfig, "apply", "--server-side", "-f", "-", text_input=objects)


def _start_scheduler(plane: ControlPlane, addresses: Addresses) -> None:
    pki = Pki(plane.folder / "pki")
    pki.issue("scheduler", "system:kube-scheduler")
    kubeconfig = plane.folder / "scheduler.kubeconfig"
    pki.kubeconfig("scheduler", server(addresses), kubeconfig)
    plane.run_component(
        "kube-scheduler",
        [
            f"--kubeconfig={kubeconfig}",
            f"--bind-address={addresses.loopback}",
            f"--secure-port={SCHEDULER_PORT}",
            "--leader-elect=false",
        ],
    )


def _start_agent(plane: ControlPlane) -> None:
    record = plane.record("agent")
    if processes.recorded(record) is None:
        command = [
            *(sys.executable, "-m", "rtj_devcluster.agent"),
            f"--kubeconfig={plane.kubeconfig}",
            f"--volumes={plane.folder / 'volumes'}",
        ]
        processes.start(record, command, log=plane.log("agent"))
