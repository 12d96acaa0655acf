"""The configuration files of one node's containerd, CNI and kubelet."""

import json
from dataclasses import dataclass
from pathlib import Path

from rtj_devcluster import kubebox, pause_image
from rtj_devcluster.addresses import MAX_NODES, Addresses
from rtj_devcluster.node_init import CONTAINERD_SOCKET, Machine
from rtj_devcluster.packages import cni_folder
from rtj_devcluster.paths import write_atomically
from rtj_devcluster.pki import Pki

GPU_LABEL = "devcluster.resumable.training/gpus"
"""Label of a node: how many GPUs it pretends to have; agent.py puts them into its status."""


@dataclass(frozen=True)
class NodeFiles:
    """Writes and names all files of one node."""

    name: str
    index: int
    folder: Path
    cgroup: str
    """Path of the node's cgroup inside a hierarchy."""
    addresses: Addresses
    pki: Pki
    gpus: int
    lease_seconds: int

    @property
    def address(self) -> str:
        """The node's address."""
        return self.addresses.node(self.index)

    @property
    def containerd_root(self) -> Path:
        """Folder of the node's images and containers."""
        return self.folder / "containerd"

    def write(self, server: str) -> Path:
        """Write every file; return the path of the one that node_init reads."""
        for part in ("log", "kubelet", "containerd"):
            (self.folder / part).mkdir(parents=True, exist_ok=True)
        self._issue_certificates(server)
        self._json("cni/10-pods.conflist", self._cni())
        self._json("kubelet.json", self._kubelet())
        write_atomically(self.folder / "containerd.toml", self._containerd())
        return self._json("machine.json", self._machine().__dict__)

    def _json(self, name: str, content: object) -> Path:
        path = self.folder / name
        write_atomically(path, json.dumps(content, indent=2))
        return path

    def _issue_certificates(self, server: str) -> None:
        user = f"system:node:{self.name}"
        hosts = [self.name, self.address]
        self.pki.issue(self.name, user, ["system:nodes"], hosts=hosts)
        self.pki.kubeconfig(self.name, server, self.folder / "kubelet.kubeconfig")
        self.pki.kubeconfig("kube-proxy", server, self.folder / "kube-proxy.kubeconfig")

    def _machine(self) -> Machine:
        """Routes to every node that there may ever be: nobody has to be told of a new one."""
        others = (index for index in range(1, MAX_NODES + 1) if index != self.index)
        return Machine(
            hostname=self.name,
            address=f"{self.address}/{self.addresses.node_network.prefixlen}",
            gateway=self.addresses.gateway,
            routes={
                str(self.addresses.pods_of_node(index)): self.addresses.node(index)
                for index in others
            },
            # Both are also the only place where the kubelet puts some things.
            disk={
                "/var/lib/kubelet": str(self.folder / "kubelet"),
                "/var/log": str(self.folder / "log"),
            },
            services=self._services(),
        )

    def _services(self) -> dict[str, list[str]]:
        return {
            "containerd": ["containerd", f"--config={self.folder / 'containerd.toml'}"],
            "kubelet": [
                str(kubebox.binary("kubelet")),
                f"--config={self.folder / 'kubelet.json'}",
                f"--kubeconfig={self.folder / 'kubelet.kubeconfig'}",
                f"--hostname-override={self.name}",
                f"--node-ip={self.address}",
                f"--node-labels={GPU_LABEL}={self.gpus}",
            ],
            "kube-proxy": [
                str(kubebox.binary("kube-proxy")),
                f"--kubeconfig={self.folder / 'kube-proxy.kubeconfig'}",
                f"--hostname-override={self.name}",
                f"--cluster-cidr={self.addresses.pods}",
                "--proxy-mode=iptables",
                # An answer between two pods of one node crosses their bridge, past the translation
                # that the request passed, unless the host has the module br_netfilter.
                "--masquerade-all",
                # The size of the connection table belongs to the host.
                "--conntrack-max-per-core=0",
            ],
        }

    def _cni(self) -> object:
        subnet = str(self.addresses.pods_of_node(self.index))
        bridge = {
            "type": "bridge",
            "bridge": "cni0",
            "isGateway": True,
            "hairpinMode": True,
            "ipam": {
                "type": "host-local",
                # Lost in a power cut, as the pods that have the addresses are.
                "dataDir": "/run/cni-ipam",
                "ranges": [[{"subnet": subnet}]],
                "routes": [{"dst": "0.0.0.0/0"}],
            },
        }
        portmap = {"type": "portmap", "capabilities": {"portMappings": True}}
        return {"cniVersion": "0.4.0", "name": "pods", "plugins": [bridge, portmap]}

    def _containerd(self) -> str:
        cri = 'plugins."io.containerd.grpc.v1.cri"'
        return f"""\
version = 2
root = "{self.containerd_root}"
state = "/run/containerd/state"
[grpc]
  address = "{CONTAINERD_SOCKET}"
[plugins."io.containerd.internal.v1.opt"]
  path = "{self.folder / "opt"}"
[{cri}]
  sandbox_image = "{pause_image.NAME}"
  restrict_oom_score_adj = true
  [{cri}.cni]
    bin_dir = "{cni_folder()}"
    conf_dir = "{self.folder / "cni"}"
  [{cri}.containerd]
    default_runtime_name = "runc"
    [{cri}.containerd.runtimes.runc]
      runtime_type = "io.containerd.runc.v2"
"""

    def _kubelet(self) -> object:
        return {
            "apiVersion": "kubelet.config.k8s.io/v1beta1",
            "kind": "KubeletConfiguration",
            "address": self.address,
            "authentication": {
                "anonymous": {"enabled": False},
                "webhook": {"enabled": True},
                "x509": {"clientCAFile": str(self.pki.ca)},
            },
            "authorization": {"mode": "Webhook"},
            "tlsCertFile": str(self.pki.certificate(self.name)),
            "tlsPrivateKeyFile": str(self.pki.key(self.name)),
            "clusterDNS": [str(self.addresses.dns_service)],
            "clusterDomain": "cluster.local",
            "resolvConf": "",
            # The default is a folder of the host.
            "volumePluginDir": str(self.folder / "volume-plugins"),
            "containerRuntimeEndpoint": f"unix://{CONTAINERD_SOCKET}",
            "cgroupDriver": "cgroupfs",
            "cgroupRoot": self.cgroup,
            "enforceNodeAllocatable": [],
            "failCgroupV1": False,
            "failSwapOn": False,
            # Lets the kubelet run where it may not set limits and settings of the host.
            "featureGates": {"KubeletInUserNamespace": True},
            "evictionHard": {"memory.available": "100Mi"},
            "nodeLeaseDurationSeconds": self.lease_seconds,
            # A volume over its sizeLimit is noticed in seconds, where the default is a minute.
            "volumeStatsAggPeriod": "10s",
            # There is no registry to pull a removed image from again.
            "imageGCHighThresholdPercent": 100,
            "imageGCLowThresholdPercent": 99,
        }
