"""What a full cluster runs on the host: the control plane, a scheduler, a DNS and the agent."""

import json
import sys
from pathlib import Path

from rtj_devcluster import kubectl, manifests, processes
from rtj_devcluster.addresses import API_SERVER_PORT, SCHEDULER_PORT, Addresses
from rtj_devcluster.control_plane import ControlPlane
from rtj_devcluster.pki import Pki


def server(addresses: Addresses) -> str:
    """Return the URL of the API server, as nodes, pods and the host reach it."""
    return f"https://{addresses.gateway}:{API_SERVER_PORT}"


def start(plane: ControlPlane, addresses: Addresses) -> None:
    """Start what does not run yet; the bridge must be there. Return when every part works.

    Raises:
        DevClusterError: a part ended, or does not work within a minute; the message ends with its
            log.
    """
    plane.start(addresses, bind=addresses.gateway, advertise=addresses.gateway, owned=False)
    _start_scheduler(plane, addresses)
    corefile = plane.folder / "Corefile"
    corefile.write_text(manifests.corefile(addresses, str(plane.kubeconfig)))
    plane.run_component("coredns", [f"-conf={corefile}"])
    agent_ready = _start_agent(plane)
    objects = json.dumps(manifests.system_objects(addresses))
    kubectl.call(plane.kubeconfig, "apply", "--server-side", "-f", "-", text_input=objects)
    plane.await_listening("kube-scheduler", addresses.loopback, SCHEDULER_PORT)
    plane.await_listening("coredns", addresses.gateway, manifests.DNS_PORT)
    plane.await_component("agent", lambda _: agent_ready.exists())


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


def _start_agent(plane: ControlPlane) -> Path:
    """Start the agent; return the file that is there when it works."""
    record = plane.record("agent")
    ready = record.with_name("agent.ready")
    if processes.recorded(record) is None:
        ready.unlink(missing_ok=True)
        command = [
            *(sys.executable, "-m", "rtj_devcluster.agent"),
            f"--kubeconfig={plane.kubeconfig}",
            f"--volumes={plane.folder / 'volumes'}",
            f"--ready={ready}",
        ]
        processes.start(record, command, log=plane.log("agent"))
    return ready
