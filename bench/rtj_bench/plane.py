"""A control plane of its own for a run, with the operator as a process and, if asked, fake nodes.

All of it are processes of this one: they are killed when it ends, however it ends.
"""

import contextlib
import json
import os
import re
import socket
import sys
import time
import urllib.error
import urllib.request
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from pathlib import Path

from rtj_api.names import API_VERSION, PLURAL
from rtj_devcluster import kubebox, kubectl, processes, slots
from rtj_devcluster.addresses import API_SERVER_PORT, SCHEDULER_PORT
from rtj_devcluster.control_plane import ControlPlane, ControlPlaneOptions
from rtj_devcluster.pki import Pki
from rtj_devcluster.shell import run, tail, wait_until

from rtj_bench import cpu, kwok
from rtj_bench.api import Api, ApiError, Manifest, in_parallel, until
from rtj_bench.say import say

ROOT = Path(__file__).resolve().parents[2]
SYSTEM = "rtj-system"
OPERATOR = "rtj-rtj-operator"
"""What the chart calls the operator's account and its Lease."""
ACCOUNT = f"system:serviceaccount:{SYSTEM}:{OPERATOR}"
PLAYER = "rtj-bench"
"""Account of all that is played: nodes, trainers, users."""
NODES = 50
TOKEN_HOURS = 12
READY_WITHIN_SECONDS = 300.0


@dataclass(frozen=True)
class Plane:
    """A running control plane, and what is started beside it."""

    control_plane: ControlPlane

    @property
    def pki(self) -> Pki:
        """Its certificates."""
        return Pki(self.control_plane.folder / "pki")

    @property
    def server(self) -> str:
        """URL of the API server."""
        slot = slots.of_cluster(self.control_plane.name)
        assert slot is not None, "the control plane is down"  # noqa: S101
        return f"https://{slot.addresses.loopback}:{API_SERVER_PORT}"

    def api(self) -> Api:
        """Return an administrator's connection, to be entered."""
        return Api(self.server, self.pki.folder, self.token_file(PLAYER).read_text())

    def start(self, name: str, command: list[str | Path], **env: str) -> processes.Process:
        """Start a program that lives and dies with this run."""
        plane = self.control_plane
        return processes.start(
            plane.record(name),
            command,
            log=plane.log(name),
            env={**os.environ, **env},
            dies_with_caller=True,
        )

    def stop(self, name: str) -> None:
        """Kill such a program, if it runs."""
        if process := processes.recorded(self.control_plane.record(name)):
            processes.kill([process])

    def play_trainers(self, *, still: bool) -> None:
        """Start the process that plays all trainers; see `rtj_bench.trainers`."""
        command: list[str | Path] = [
            sys.executable,
            "-m",
            "rtj_bench.trainers",
            self.server,
            self.pki.folder,
            self.token_file(PLAYER),
        ]
        self.start("trainers", [*command, *(["--still"] if still else [])])

    def install_operator(self) -> None:
        """Apply what the chart installs less the Deployment: the CRD and the operator's rights."""
        chart = ROOT / "charts" / "rtj-operator"
        helm: list[str | Path] = [kubebox.binary("helm"), "template", "rtj", chart]
        rendered = run([*helm, "--namespace", SYSTEM]).stdout
        wanted = re.compile(
            r"^kind: (CustomResourceDefinition|ServiceAccount|(Cluster)?Role(Binding)?)$", re.M
        )
        documents = [part for part in rendered.split("\n---\n") if wanted.search(part)]
        config = self.control_plane.kubeconfig
        kubectl.call(config, "create", "namespace", SYSTEM)
        text = "\n---\n".join(documents)
        kubectl.call(config, "apply", "--server-side", "-f", "-", text_input=text)
        kubectl.call(config, "create", "serviceaccount", PLAYER, "-n", SYSTEM)
        rights = ("--clusterrole=cluster-admin", f"--serviceaccount={SYSTEM}:{PLAYER}")
        kubectl.call(config, "create", "clusterrolebinding", PLAYER, *rights)
        for account in (OPERATOR, PLAYER):
            self._log_in(account)

    def token_file(self, account: str) -> Path:
        """Return the file with the token of an account."""
        return self.control_plane.folder / f"{account}.token"

    def kubeconfig(self, account: str) -> Path:
        """Return the kubeconfig of an account."""
        return self.control_plane.folder / f"{account}.kubeconfig"

    def _log_in(self, account: str) -> None:
        """Get a token, as the kubelet does for a pod."""
        admin = self.control_plane.kubeconfig
        lifetime = f"--duration={TOKEN_HOURS}h"
        token = kubectl.call(admin, "create", "token", account, "-n", SYSTEM, lifetime).strip()
        self.token_file(account).write_text(token)
        config = json.loads(admin.read_text())
        config["users"][0]["user"] = {"token": token}
        self.kubeconfig(account).write_text(json.dumps(config))

    async def start_fake_nodes(self, client_qps: int) -> None:
        """Start a scheduler and KWOK, and return when all fake nodes are Ready."""
        plane = self.control_plane
        self.pki.issue("scheduler", "system:kube-scheduler")
        config = plane.folder / "scheduler.kubeconfig"
        self.pki.kubeconfig("scheduler", self.server, config)
        scheduler = [
            f"--kubeconfig={config}",
            f"--bind-address={self.server.split('/')[2].split(':')[0]}",
            f"--secure-port={SCHEDULER_PORT}",
            "--leader-elect=false",
            f"--kube-api-qps={client_qps}",
            f"--kube-api-burst={client_qps}",
        ]
        plane.run_component("kube-scheduler", scheduler, owned=True)
        stages = plane.folder / "kwok.yaml"
        kwok.write_configuration(stages)
        self.start(
            "kwok", [kwok.binary(), f"--kubeconfig={self.kubeconfig(PLAYER)}", f"--config={stages}"]
        )
        async with self.api() as api:
            names = [f"fake-{number:02}" for number in range(NODES)]
            await in_parallel(
                lambda name: api.request("POST", "/api/v1/nodes", kwok.node(name)), names
            )

            async def ready() -> bool:
                return all(map(_is_ready, (await api.list("/api/v1/nodes"))[0]))

            await until(ready, "the fake nodes are Ready", 120)

    @contextlib.contextmanager
    def operator(self, **settings: str) -> Iterator["Operator"]:
        """Run the operator with its defaults, and these environment variables."""
        port = _free_port()
        environment = {
            "KUBECONFIG": str(self.kubeconfig(OPERATOR)),
            "RTJ_OPERATOR_NAMESPACE": SYSTEM,
            "RTJ_LEASE": OPERATOR,
            "RTJ_HEALTH_PORT": str(port),
            **settings,
        }
        began = time.monotonic()
        process = self.start("operator", [sys.executable, "-m", "rtj_operator"], **environment)
        try:
            yield Operator(process, port, began, self.control_plane.log("operator"))
        finally:
            self.stop("operator")


@dataclass(frozen=True)
class Operator:
    """The operator's process."""

    process: processes.Process
    port: int
    began: float
    """When it was started, by time.monotonic()."""
    log: Path

    def wait_until_ready(self) -> float:
        """Wait for 200 of /readyz; return the seconds since its start."""
        wait_until(
            self._ready,
            what="the operator is ready",
            timeout=READY_WITHIN_SECONDS,
            every=0.02,
            hint=lambda: tail(self.log),
        )
        return time.monotonic() - self.began

    def must_live(self) -> None:
        """Raise RuntimeError if it has ended: nobody starts it again here."""
        if not self.process.alive():
            raise RuntimeError(f"the operator has ended\n{tail(self.log)}")

    def _ready(self) -> bool:
        self.must_live()
        return self._get("/readyz") is not None

    def metric(self, name: str) -> float:
        """Return the sum of a metric's samples whose name and labels begin like this."""
        lines = (self._get("/metrics") or "").splitlines()
        return sum(float(line.rsplit(" ", 1)[1]) for line in lines if line.startswith(name))

    def _get(self, path: str) -> str | None:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.port}{path}", timeout=30) as said:
                return str(said.read().decode())
        except (OSError, urllib.error.URLError):
            return None

    def cpu_seconds(self) -> float:
        """Return the CPU time that it has used, in user and kernel mode."""
        return cpu.of_process(self.process.pid)

    def wanted_seconds(self) -> float:
        """Return the time that it has used a core or has waited for one."""
        used, waited, _ = Path(f"/proc/{self.process.pid}/schedstat").read_text().split()
        return (int(used) + int(waited)) / 1e9

    def rss_mb(self) -> float:
        """Return its resident memory in units of 1,000,000 bytes."""
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        found = re.search(r"^VmRSS:\s+(\d+) kB$", status, re.M)
        return int(found[1]) * 1024 / 1e6 if found else 0.0


@contextlib.asynccontextmanager
async def plane(name: str, client_qps: int) -> AsyncIterator[Plane]:
    """Run a control plane with the operator's CRD and rights; audited."""
    # Only what is counted is logged: a line for each heartbeat costs the API server, too.
    options = ControlPlaneOptions(audit=True, audited_user=ACCOUNT, client_qps=client_qps)
    with ControlPlane(name, options) as control_plane:
        plane = Plane(control_plane)
        plane.install_operator()
        async with plane.api() as api:
            await until(lambda: _serves_jobs(api), "the API server serves our jobs", 60)
        say(f"the control plane {name} is up")
        try:
            yield plane
        except Exception:
            # The logs go with the control plane.
            for part in ("operator", "trainers", "kwok"):
                say(f"the end of the log of {part}:\n{tail(control_plane.log(part))}")
            raise


async def _serves_jobs(api: Api) -> bool:
    try:
        await api.request("GET", f"/apis/{API_VERSION}/{PLURAL}?limit=1")
    except ApiError:
        return False
    return True


def _is_ready(node: Manifest) -> bool:
    return bool(node["status"].get("conditions")) and not node["spec"].get("taints")


def _free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])
