"""The demo says what broke, ends with the right code, and takes down what it should."""

import csv
import io
import json
import os
import signal
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import yaml
from rtj_api.names import ANNOTATION_HEARTBEAT, KIND
from rtj_api.spec import JobSpec
from rtj_demo import __main__ as demo
from rtj_demo import jobs, kube, story
from rtj_demo.clusters import Images, Release, UnusableClusterError
from rtj_demo.current import CurrentCluster
from rtj_demo.dev import DevCluster
from rtj_demo.install import EVERYWHERE, install_operator
from rtj_demo.jobs import Job, start_inspector
from rtj_demo.kube import CommandFailedError, Kube
from rtj_devcluster import slots
from rtj_devcluster.ending import SIGNALS
from rtj_devcluster.paths import STATE_VARIABLE

pytestmark = pytest.mark.unit

EXAMPLES = story.FLIGHTS - story.CANCELLED_OR_DIVERTED
GOOD = {
    "stateSha256": "5" * 64,
    "ledgerHash": "1" * 64,
    "steps": 3000,
    "examplesPerEpoch": {"0": EXAMPLES, "1": EXAMPLES, "2": EXAMPLES},
}
STEPS = 3000


class Kubernetes:
    """Answers as a cluster on which the first job is struck and both jobs end."""

    def __init__(self) -> None:
        self.struck = False
        self.first_step = 1250
        self.phase = "Completed"
        self.over_in: int | None = None
        """Number of the attempt that ends before anybody looks at the job again."""
        self.reports = {"flights": GOOD, "flights-uninterrupted": GOOD}
        self.jobs: list[dict[str, Any]] = []
        self.applied: list[dict[str, Any]] = []
        self._step = 0

    def run(self, *arguments: str, stdin: str | bytes | None = None) -> str:
        if "apply" in arguments and stdin:
            self.jobs += [o for o in yaml.safe_load_all(stdin) if o["kind"] == KIND]
        if "ledger" in arguments:
            folder = arguments[arguments.index("check") + 1]
            return json.dumps({"jobs": [self.reports[folder.rpartition("/")[2]]]})
        return ""

    def run_helm(self, *_: str) -> str:
        return ""

    def apply(self, *objects: dict[str, Any]) -> None:
        self.applied += objects

    def get(self, kind: str, name: str, _namespace: str) -> dict[str, Any]:
        number, node = 1 + self.struck, "node-2"
        attempt = {
            "number": number,
            "nodeName": node,
            "podName": f"flights-{number}",
            "firstStep": self.first_step,
        }
        position = {"step": self._step, "totalSteps": STEPS}
        if kind == "rtj":
            shown = {"attempts": [attempt]} if self.over_in == number else {"attempt": attempt}
            status = {**shown, "position": position, "phase": self.phase}
            return {"metadata": {"uid": name}, "status": {**status, "conditions": []}}
        self._step += STEPS // 4
        beat = {"attempt": number, "phase": "Training", "position": position}
        return {"metadata": {"annotations": {ANNOTATION_HEARTBEAT: json.dumps(beat)}}}


class Cluster:
    """Where the story is told here: it can fail at each of its steps."""

    name = "bowl"
    victim = "goldfish"
    release = EVERYWHERE
    way_down = "nobody takes it down"

    def __init__(self) -> None:
        self.kube = Kubernetes()
        self.fails: dict[str, BaseException] = {}
        self.there = False

    def _reach(self, step: str) -> None:
        if step in self.fails:
            raise self.fails[step]

    def up(self) -> None:
        self.there = True
        self._reach("up")

    def provide_images(self) -> Images:
        self._reach("images")
        return Images("operator:1", "trainer:1")

    def strike(self, job: Job) -> str:
        self._reach("strike")
        job.pod_name()
        self.kube.struck = True
        return "it was struck"

    def mend(self) -> None:
        self._reach("mend")
        self.kube.struck = False

    def down(self) -> None:
        self._reach("down")
        self.there = False


@pytest.fixture
def cluster(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Cluster]:
    monkeypatch.setenv(STATE_VARIABLE, str(tmp_path / "state"))
    cluster = Cluster()
    monkeypatch.setitem(demo.CLUSTERS, "dev", lambda: cluster)
    monkeypatch.setattr(sys, "argv", ["demo"])
    handlers = {number: signal.signal(number, signal.SIG_DFL) for number in SIGNALS}
    yield cluster
    for number, handler in handlers.items():
        signal.signal(number, handler)


Capture = pytest.CaptureFixture[str]


def test_a_demo_whose_every_promise_held_ends_with_0_and_leaves_the_cluster(
    cluster: Cluster, capsys: Capture
) -> None:
    assert demo.main() == 0
    assert cluster.there
    told = capsys.readouterr()
    assert "The job lost its goldfish in mid-epoch" in told.out
    assert "9,430 of the 336,776 flights" in told.out
    assert "nobody takes it down" in told.out
    assert "Kill its goldfish" in told.err
    assert "on node-2" in told.err


def test_a_job_that_is_over_before_its_second_attempt_was_looked_at_is_a_good_one(
    cluster: Cluster, capsys: Capture
) -> None:
    cluster.kube.over_in = 2
    assert demo.main() == 0, capsys.readouterr().out
    assert "resumed from step      1250" in capsys.readouterr().out


def test_a_job_that_is_over_when_it_is_to_be_struck_fails_the_demo(
    cluster: Cluster, capsys: Capture
) -> None:
    cluster.kube.over_in = 1
    assert demo.main() == 1
    told = capsys.readouterr().out
    assert "flights ended too early, nothing was killed: job flights has no pod" in told
    assert "its phase is Completed" in told
    assert "nobody takes it down" in told


def test_a_job_that_ends_just_before_its_kill_is_not_waited_for(
    cluster: Cluster, monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    clock = SlowPulls()
    monkeypatch.setattr(kube, "time", clock)
    monkeypatch.setattr(Cluster, "strike", lambda *_: "it was struck")
    cluster.kube.over_in = 1
    assert demo.main() == 1
    assert "flights ended too early: it was over before the kill" in capsys.readouterr().out
    assert clock.monotonic() < 10


class SlowPulls(Kubernetes):
    """Its nodes pull each image for ten minutes, by a clock of its own."""

    SECONDS = 600

    def __init__(self) -> None:
        super().__init__()
        self._now = 0.0
        self._since: dict[object, float] = {}

    def monotonic(self) -> float:
        return self._now

    def sleep(self, seconds: float) -> None:
        self._now += seconds

    def run(self, *arguments: str, stdin: str | bytes | None = None) -> str:
        if any(option.startswith("pod/") for option in arguments):
            self._wait(next(o for o in arguments if "--timeout=" in o).rpartition("=")[2])
        return super().run(*arguments, stdin=stdin)

    def run_helm(self, *arguments: str) -> str:
        self._wait(arguments[arguments.index("--timeout") + 1])
        return super().run_helm(*arguments)

    def _wait(self, timeout: str) -> None:
        if float(timeout.removesuffix("s")) < self.SECONDS:
            raise CommandFailedError("timed out waiting for the condition")

    def get(self, kind: str, name: str, namespace: str) -> dict[str, Any]:
        node = (name, self.struck)
        if kind == "leases" and self._since.setdefault(node, self._now) + self.SECONDS > self._now:
            raise CommandFailedError("not found")
        return super().get(kind, name, namespace)


def test_a_cluster_whose_nodes_first_pull_the_images_is_waited_for(
    cluster: Cluster, monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    slow = cluster.kube = SlowPulls()
    for module in (kube, story):
        monkeypatch.setattr(module, "time", slow)
    assert demo.main() == 0, capsys.readouterr().out


def test_a_job_that_fails_before_its_first_step_is_not_waited_for(
    cluster: Cluster, monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    slow = cluster.kube = SlowPulls()
    slow.phase = "Failed"
    for module in (kube, story):
        monkeypatch.setattr(module, "time", slow)
    assert demo.main() == 1
    assert "job flights failed" in capsys.readouterr().out
    assert slow.monotonic() == 0


def test_the_jobs_of_the_demo_start_at_once_although_the_example_waits(cluster: Cluster) -> None:
    demo.main()
    specs = [JobSpec.model_validate(job["spec"]) for job in cluster.kube.jobs]
    assert [spec.run_policy.suspend for spec in specs] == [False, False]


def test_a_volume_is_looked_at_with_the_pod_of_the_examples() -> None:
    kubernetes = Kubernetes()
    start_inspector(kubernetes, "space", "claim", "trainer:2")  # type: ignore[arg-type]
    (pod,) = kubernetes.applied
    example = yaml.safe_load((jobs.EXAMPLES / "inspector.yaml").read_text())
    example["metadata"] = {"name": jobs.INSPECTOR, "namespace": "space"}
    example["spec"]["containers"][0]["image"] = "trainer:2"
    example["spec"]["volumes"][0]["persistentVolumeClaim"]["claimName"] = "claim"
    assert pod == example


@pytest.mark.parametrize("job", ["flights", "flights-uninterrupted"])
@pytest.mark.parametrize(
    ("forged", "told"),
    [
        ({"stateSha256": "6" * 64}, "the final weights differ"),
        ({"ledgerHash": "2" * 64}, "the sequence of examples differs"),
        ({"examplesPerEpoch": {"0": EXAMPLES}}, "the number of examples per epoch differs"),
    ],
)
def test_two_jobs_that_differ_fail_the_demo(
    cluster: Cluster, capsys: Capture, job: str, forged: dict[str, Any], told: str
) -> None:
    cluster.kube.reports[job] = GOOD | forged
    assert demo.main() == 1
    assert told in capsys.readouterr().out


@pytest.mark.parametrize(
    "counts", [{"0": EXAMPLES, "1": EXAMPLES}, {"0": EXAMPLES, "1": EXAMPLES - 1, "2": EXAMPLES}]
)
def test_flights_that_both_jobs_left_out_fail_the_demo(
    cluster: Cluster, capsys: Capture, counts: dict[str, int]
) -> None:
    short = GOOD | {"examplesPerEpoch": counts}
    cluster.kube.reports = {"flights": short, "flights-uninterrupted": short}
    assert demo.main() == 1
    assert "not every flight with a delay" in capsys.readouterr().out


def test_a_start_from_nothing_fails_the_demo(cluster: Cluster, capsys: Capture) -> None:
    cluster.kube.first_step = 0
    assert demo.main() == 1
    assert "did not resume from a commit" in capsys.readouterr().out


def test_a_job_that_fails_fails_the_demo(cluster: Cluster, capsys: Capture) -> None:
    cluster.kube.phase = "Failed"
    assert demo.main() == 1
    assert "job flights failed" in capsys.readouterr().out


def test_the_flights_that_are_expected_are_those_of_the_package() -> None:
    with zipfile.ZipFile(story.flights_csv()) as archive:
        (name,) = archive.namelist()
        rows = list(csv.DictReader(io.TextIOWrapper(archive.open(name))))
    assert len(rows) == story.FLIGHTS
    assert sum(row["arr_delay"] in ("", "NA") for row in rows) == story.CANCELLED_OR_DIVERTED


@pytest.mark.parametrize("step", ["up", "images", "strike", "mend"])
@pytest.mark.parametrize(
    "error",
    [
        UnusableClusterError("[/no]"),
        CommandFailedError("[/no]"),
        OSError("[/no]"),
        TimeoutError("[/no]"),
    ],
)
def test_a_failure_ends_with_1_in_its_own_words_and_leaves_the_cluster(
    cluster: Cluster, capsys: Capture, step: str, error: Exception
) -> None:
    cluster.fails[step] = error
    assert demo.main() == 1
    assert cluster.there
    told = capsys.readouterr().out
    assert "[/no]" in told
    assert "nobody takes it down" in told


def test_a_cluster_that_cannot_be_had_here_ends_with_2(
    monkeypatch: pytest.MonkeyPatch, cluster: Cluster, capsys: Capture
) -> None:
    monkeypatch.setattr(sys, "argv", ["demo", "--cluster", "current"])
    monkeypatch.delenv("KUBECONFIG", raising=False)
    assert demo.main() == 2
    assert "KUBECONFIG" in capsys.readouterr().out


def test_a_demo_beside_another_is_refused_and_leaves_its_cluster_alone(
    cluster: Cluster, capsys: Capture
) -> None:
    cluster.there = True
    cluster.fails["up"] = KeyboardInterrupt()
    with slots.in_use(cluster.name):
        assert demo.main() == 2
    assert cluster.there
    assert "another run uses the cluster 'bowl'" in capsys.readouterr().out


@pytest.mark.parametrize("number", SIGNALS)
@pytest.mark.parametrize("step", ["up", "mend"])
def test_a_signal_takes_the_cluster_down_and_ends_with_130(
    cluster: Cluster, monkeypatch: pytest.MonkeyPatch, step: str, number: signal.Signals
) -> None:
    monkeypatch.setattr(Cluster, step, lambda self: signal.raise_signal(number))
    cluster.there = True
    assert demo.main() == 130
    assert not cluster.there


def test_a_cluster_that_cannot_be_taken_down_is_not_said_to_be_gone(
    cluster: Cluster, capsys: Capture
) -> None:
    cluster.fails = {"mend": KeyboardInterrupt(), "down": UnusableClusterError("it is stuck")}
    assert demo.main() == 1
    assert "it is stuck" in capsys.readouterr().out


def test_what_the_dev_cluster_cannot_do_is_an_error_that_the_demo_knows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(STATE_VARIABLE, str(tmp_path))
    absent: Any = DevCluster("absent")
    with pytest.raises(UnusableClusterError, match="no cluster 'absent'"):
        absent.strike(SimpleNamespace(node_name=lambda: "node-1"))
    with pytest.raises(UnusableClusterError, match="no cluster 'absent'"):
        absent.mend()


@pytest.fixture
def theirs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """All that a demo on a cluster of somebody else needs."""
    for name in ("OPERATOR_IMAGE", "TRAINER_IMAGE"):
        monkeypatch.setenv(name, "x")
    (tmp_path / "config").touch()
    monkeypatch.setenv("KUBECONFIG", str(tmp_path / "config"))
    for tool in ("kubectl", "helm"):
        (tmp_path / tool).write_text("#!/bin/sh\n")
        (tmp_path / tool).chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))


@pytest.mark.parametrize("tool", ["kubectl", "helm"])
@pytest.mark.usefixtures("theirs")
def test_on_a_cluster_of_somebody_else_a_program_that_is_missing_is_named(
    tmp_path: Path, tool: str
) -> None:
    (tmp_path / tool).unlink()
    with pytest.raises(UnusableClusterError, match=f"CLUSTER=current needs `{tool}`"):
        CurrentCluster()


@pytest.mark.usefixtures("theirs")
def test_a_kubeconfig_that_is_not_there_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KUBECONFIG", "/absent:/missing")
    with pytest.raises(UnusableClusterError, match="KUBECONFIG is /absent:/missing"):
        CurrentCluster()


def test_all_files_that_kubeconfig_lists_count(tmp_path: Path) -> None:
    contexts = {
        "current-context": "a",
        "contexts": [{"name": "a", "context": {"cluster": "a", "user": "a"}}],
    }
    server = {"server": "https://theirs.example:6443"}
    clusters = {
        "clusters": [{"name": "a", "cluster": server}],
        "users": [{"name": "a", "user": {"token": "t"}}],
    }
    files = [tmp_path / "contexts", tmp_path / "clusters"]
    for file, part in zip(files, (contexts, clusters), strict=True):
        file.write_text(yaml.safe_dump(part))
    listed = os.pathsep.join(map(str, files))
    kube = Kube(["sh", "-c", "printf %s $KUBECONFIG"], [], listed, tmp_path)
    assert kube.run() == listed
    assert kube._api.configuration.host == "https://theirs.example:6443"


def installed(images: Images, release: Release = EVERYWHERE, crd: str = "") -> list[str]:
    """Return what helm is told where `crd` is the CRD that is there."""
    told: list[str] = []
    kube: Any = SimpleNamespace(run_helm=lambda *said: told.extend(said), run=lambda *_: crd)
    install_operator(kube, images, release)
    return told


@pytest.mark.parametrize(
    ("image", "repository", "tag", "digest"),
    [
        ("me/op", "me/op", "latest", ""),
        ("me/op:1", "me/op", "1", ""),
        ("example.org:5000/op", "example.org:5000/op", "latest", ""),
        ("example.org:5000/op:1", "example.org:5000/op", "1", ""),
        ("example.org:5000/op@sha256:ab", "example.org:5000/op", "latest", "sha256:ab"),
        ("me/op:1@sha256:ab", "me/op", "1", "sha256:ab"),
    ],
)
def test_the_chart_is_given_the_operators_repository_tag_and_digest(
    image: str, repository: str, tag: str, digest: str
) -> None:
    told = installed(Images(image, "trainer:1"))
    assert f"--set-string=image.repository={repository}" in told
    assert f"--set-string=image.tag={tag}" in told
    assert f"--set-string=image.digest={digest}" in told


def owned(release: str, namespace: str) -> str:
    """Return the CRD, as a Helm release has it."""
    owner = {"release-name": release, "release-namespace": namespace}
    annotations = {f"meta.helm.sh/{name}": value for name, value in owner.items()}
    return json.dumps({"metadata": {"annotations": annotations}})


@pytest.mark.parametrize(
    ("crd", "brings"),
    [
        ("", "true"),
        (owned("rtj-demo", "rtj-demo"), "true"),
        (owned("rtj", "rtj-system"), "false"),
        ('{"metadata": {}}', "false"),
    ],
)
def test_on_a_cluster_of_somebody_else_the_demo_has_a_release_of_its_own(
    crd: str, brings: str
) -> None:
    told = installed(Images("op:1", "trainer:1"), CurrentCluster.release, crd)
    assert told[told.index("--install") + 1] == "rtj-demo"
    assert told[told.index("--namespace") + 1] == "rtj-demo"
    assert "--set-string=watchNamespaces={rtj-demo}" in told
    assert f"--set=crds.enabled={brings}" in told


def deployment(release: str, namespace: str, served: str) -> dict[str, Any]:
    """Return an operator's Deployment, as the chart makes it."""
    env = [{"name": "RTJ_NAMESPACES", "value": served} if served else {"name": "RTJ_NAMESPACES"}]
    labels = {"app.kubernetes.io/instance": release}
    return {
        "metadata": {"name": "operator", "namespace": namespace, "labels": labels},
        "spec": {"template": {"spec": {"containers": [{"env": env}]}}},
    }


def with_operator(tools: Path, *there: dict[str, Any]) -> CurrentCluster:
    """Return somebody's cluster, on which these operators are."""
    (tools / "answer").write_text(json.dumps({"items": there}))
    (tools / "kubectl").write_text(f"#!/bin/sh\nread -r line < {tools}/answer; echo $line\n")
    return CurrentCluster()


@pytest.mark.parametrize(
    ("operator", "serves"),
    [
        (deployment("rtj", "rtj-system", ""), "all namespaces"),
        (deployment("rtj", "rtj-system", "a,rtj-demo"), "a, rtj-demo"),
        (deployment("rtj", "rtj-demo", "a"), "a"),
    ],
)
@pytest.mark.usefixtures("theirs")
def test_beside_an_operator_that_would_take_its_jobs_the_demo_is_refused(
    tmp_path: Path, operator: dict[str, Any], serves: str
) -> None:
    cluster = with_operator(tmp_path, operator)
    where = operator["metadata"]["namespace"]
    told = f"operator operator in namespace {where} looks after {serves}, "
    with pytest.raises(UnusableClusterError, match=told):
        cluster.up()
    assert cluster.way_down == "the demo has put nothing there"


@pytest.mark.usefixtures("theirs")
def test_beside_its_own_operator_and_that_of_others_the_demo_runs(
    tmp_path: Path, capsys: Capture
) -> None:
    own, other = deployment("rtj-demo", "rtj-demo", "rtj-demo"), deployment("rtj", "a", "a,b")
    cluster = with_operator(tmp_path, own, other)
    cluster.up()
    cluster.down()
    told = " ".join(capsys.readouterr().out.split())
    assert "stays as it is" in told
    assert "helm uninstall rtj-demo --namespace rtj-demo" in told
    assert "make clean" not in told
