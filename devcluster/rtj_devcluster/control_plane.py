"""The control plane alone: etcd, API server, controller manager; enough to test a controller.

It needs no rights and changes nothing on the machine but its own folder. The
dev cluster adds a bridge, nodes, a scheduler and a DNS to it (cluster.py).
"""

import json
import os
import shutil
import ssl
import urllib.error
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rtj_devcluster import kubebox, processes, slots
from rtj_devcluster.addresses import (
    API_SERVER_PORT,
    CONTROLLER_MANAGER_PORT,
    ETCD_CLIENT_PORT,
    ETCD_PEER_PORT,
    Addresses,
)
from rtj_devcluster.errors import DevClusterError
from rtj_devcluster.paths import cluster_folder, write_atomically
from rtj_devcluster.pki import Pki
from rtj_devcluster.processes import Process
from rtj_devcluster.shell import tail, wait_until

_READY_TIMEOUT_SECONDS = 60.0
_UNREACHABLE = "198.51.100.1"
"""An address for documentation (RFC 5737): nothing talks to a control plane without nodes."""


GARBAGE_PERCENT = "300"
"""Memory is cheaper here than the quarter of the API server's time that Go's collector took."""


@dataclass(frozen=True)
class ControlPlaneOptions:
    """What a caller may ask of the control plane; the defaults are upstream's."""

    audit: bool = False
    """Whether the API server writes ``log/audit.log``: one JSON line (metadata only) a request."""
    audited_user: str | None = None
    """Whose requests alone are in it; None: everybody's."""
    client_qps: int | None = None
    """Requests per second that each controller of the controller manager may make; None: upstream's
    20, in bursts of 30."""


@dataclass
class ControlPlane:
    """etcd, the API server and the controller manager of one cluster.

    As a context manager it lives and dies with the calling process:

        with ControlPlane("my-test") as control_plane:
            use(control_plane.kubeconfig)
    """

    name: str
    options: ControlPlaneOptions = field(default_factory=ControlPlaneOptions)

    def __enter__(self) -> "ControlPlane":
        clear_abandoned()
        addresses = slots.take(self.name, owned=True).addresses
        try:
            self.start(addresses, bind=addresses.loopback, advertise=_UNREACHABLE, owned=True)
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()
        shutil.rmtree(self.folder, ignore_errors=True)
        slots.give_back(self.name)

    @property
    def folder(self) -> Path:
        """The state folder."""
        return cluster_folder(self.name)

    @property
    def kubeconfig(self) -> Path:
        """Kubeconfig of a cluster administrator."""
        return self.folder / "kubeconfig"

    def log(self, component: str) -> Path:
        """Return the path of a component's log."""
        return self.folder / "log" / f"{component}.log"

    def record(self, component: str) -> Path:
        """Return the path of the file that names a component's process."""
        return self.folder / "run" / f"{component}.json"

    def start(self, addresses: Addresses, *, bind: str, advertise: str, owned: bool) -> None:
        """Start what does not run yet, and return when the API server is ready.

        Raises:
            DevClusterError: a component ended, or does not work within a minute; the message ends
                with its log.
        """
        pki = self.issue_certificates(addresses, bind)
        server = f"https://{bind}:{API_SERVER_PORT}"
        pki.kubeconfig("admin", server, self.kubeconfig, embed=True)
        pki.kubeconfig("controller-manager", server, self.folder / "controller-manager.kubeconfig")
        self.run_component("etcd", self._etcd(addresses), owned=owned)
        api_server = self._api_server(addresses, pki, bind, advertise)
        self.run_component("kube-apiserver", api_server, owned=owned)
        self._await_ready(server, pki)
        # It waits ten seconds for the API server and then ends.
        name, manager = "kube-controller-manager", self._controller_manager(addresses, pki)
        self.run_component(name, manager, owned=owned)
        self.await_listening(name, addresses.loopback, CONTROLLER_MANAGER_PORT)

    def issue_certificates(self, addresses: Addresses, bind: str) -> Pki:
        """Make the certificates of the control plane."""
        pki = Pki(self.folder / "pki")
        service = "kubernetes.default.svc"
        hosts = ["kubernetes", "kubernetes.default", service, f"{service}.cluster.local"]
        hosts += ["localhost", str(addresses.kubernetes_service), bind]
        pki.issue("kube-apiserver", "kube-apiserver", hosts=hosts)
        pki.issue("admin", "admin", ["system:masters"])
        pki.issue("kubelet-client", "apiserver-kubelet-client", ["system:masters"])
        pki.issue("controller-manager", "system:kube-controller-manager")
        pki.issue("kube-proxy", "system:kube-proxy")
        return pki

    def run_component(self, name: str, arguments: list[str], *, owned: bool = False) -> None:
        """Start a component of kubebox unless it runs."""
        if processes.recorded(self.record(name)) is None:
            command: list[str | Path] = [kubebox.binary(name), *arguments]
            log, record = self.log(name), self.record(name)
            env = {"GOGC": GARBAGE_PERCENT, **os.environ}
            processes.start(record, command, log=log, env=env, dies_with_caller=owned)

    def await_component(self, name: str, works: Callable[[Process], bool]) -> None:
        """Wait until a component that was started works.

        Raises:
            DevClusterError: it ended, or does not work within a minute; the message ends with its
                log.
        """
        wait_until(
            lambda: works(self._must_run(name)),
            what=f"{name} works",
            timeout=_READY_TIMEOUT_SECONDS,
            hint=lambda: tail(self.log(name)),
        )

    def await_listening(self, name: str, address: str, port: int) -> None:
        """Wait until a component takes connections; raises as ``await_component`` does."""
        # A connection would tell less: another program may hold the port, which ends this one.
        self.await_component(name, lambda process: processes.listens(process, address, port))

    def _must_run(self, name: str) -> Process:
        process = processes.recorded(self.record(name))
        if process is None:
            raise DevClusterError(f"{name} ended while it started\n{tail(self.log(name))}")
        return process

    def stop(self) -> None:
        """SIGKILL every process that this control plane started."""
        records = self.folder.glob("run/*.json")
        processes.kill(filter(None, map(processes.recorded, records)))

    def _etcd(self, addresses: Addresses) -> list[str]:
        client = f"http://{addresses.loopback}:{ETCD_CLIENT_PORT}"
        peer = f"http://{addresses.loopback}:{ETCD_PEER_PORT}"
        return [
            f"--data-dir={self.folder / 'etcd'}",
            f"--listen-client-urls={client}",
            f"--advertise-client-urls={client}",
            f"--listen-peer-urls={peer}",
            f"--initial-advertise-peer-urls={peer}",
            f"--initial-cluster=default={peer}",
            # The cluster is thrown away with its machine; waiting for the disk only slows tests.
            "--unsafe-no-fsync",
        ]

    def _api_server(self, addresses: Addresses, pki: Pki, bind: str, advertise: str) -> list[str]:
        return [
            f"--etcd-servers=http://{addresses.loopback}:{ETCD_CLIENT_PORT}",
            f"--bind-address={bind}",
            f"--secure-port={API_SERVER_PORT}",
            f"--advertise-address={advertise}",
            f"--service-cluster-ip-range={addresses.services}",
            f"--client-ca-file={pki.ca}",
            f"--tls-cert-file={pki.certificate('kube-apiserver')}",
            f"--tls-private-key-file={pki.key('kube-apiserver')}",
            "--service-account-issuer=https://kubernetes.default.svc",
            f"--service-account-key-file={pki.folder / 'service-accounts.pub'}",
            f"--service-account-signing-key-file={pki.key('service-accounts')}",
            "--authorization-mode=Node,RBAC",
            "--enable-admission-plugins=NodeRestriction",
            f"--kubelet-client-certificate={pki.certificate('kubelet-client')}",
            f"--kubelet-client-key={pki.key('kubelet-client')}",
            f"--kubelet-certificate-authority={pki.ca}",
            "--kubelet-preferred-address-types=InternalIP",
            "--allow-privileged=true",
            *self._audit(),
        ]

    def _audit(self) -> list[str]:
        if not self.options.audit:
            return []
        policy = self.folder / "audit-policy.yaml"
        rule: dict[str, Any] = {"level": "Metadata"}
        if self.options.audited_user:
            rule["users"] = [self.options.audited_user]
        document = {
            "apiVersion": "audit.k8s.io/v1",
            "kind": "Policy",
            "omitStages": ["RequestReceived"],
            "rules": [rule],
        }
        write_atomically(policy, json.dumps(document))
        return [f"--audit-policy-file={policy}", f"--audit-log-path={self.log('audit')}"]

    def _controller_manager(self, addresses: Addresses, pki: Pki) -> list[str]:
        qps = self.options.client_qps
        kubeconfig = self.folder / "controller-manager.kubeconfig"
        return [
            f"--kubeconfig={kubeconfig}",
            f"--bind-address={addresses.loopback}",
            f"--secure-port={CONTROLLER_MANAGER_PORT}",
            f"--cluster-signing-cert-file={pki.ca}",
            f"--cluster-signing-key-file={pki.key('ca')}",
            f"--root-ca-file={pki.ca}",
            f"--service-account-private-key-file={pki.key('service-accounts')}",
            "--use-service-account-credentials",
            "--leader-elect=false",
            *([f"--kube-api-qps={qps}", f"--kube-api-burst={qps}"] if qps else []),
        ]

    def _await_ready(self, server: str, pki: Pki) -> None:
        context = ssl.create_default_context(cafile=str(pki.ca))
        context.load_cert_chain(pki.certificate("admin"), pki.key("admin"))

        def ready(_: Process) -> bool:
            self._must_run("etcd")
            try:
                with urllib.request.urlopen(  # noqa: S310 - our own https address
                    f"{server}/readyz", context=context, timeout=5
                ) as answer:
                    return bool(answer.status == 200)
            except (OSError, urllib.error.URLError):
                return False

        self.await_component("kube-apiserver", ready)


def clear_abandoned() -> None:
    """Take down control planes whose owner was killed before it could."""
    for slot in slots.taken():
        if slot.abandoned:
            with slots.locked(slot.cluster):
                # Somebody else may have cleared it, and a new owner may have taken the name.
                if slots.of_cluster(slot.cluster) == slot:
                    ControlPlane(slot.cluster).__exit__()
