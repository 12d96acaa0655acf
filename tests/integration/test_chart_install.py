"""The Helm chart on a real API server: what it renders, refuses, and lets the operator do."""

import json
import re
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from rtj_api import crd
from rtj_devcluster import kubebox
from rtj_devcluster.shell import wait_until

from tests.integration.crd_install import install_crd
from tests.integration.restricted import restrict

pytestmark = pytest.mark.integration

CHART = Path(__file__).parents[2] / "charts" / "rtj-operator"
EVERY_VALUE: dict[str, Any] = {
    "crds": {"enabled": True, "keep": False},
    "watchNamespaces": ["default", "kube-public"],
    "replicas": 2,
    "image": {
        "repository": "registry.example.com:5000/rtj",
        "tag": "dev",
        "digest": "",
        "pullPolicy": "Always",
    },
    "imagePullSecrets": [{"name": "registry"}],
    "logLevel": "DEBUG",
    "workers": 2,
    "resyncSeconds": 60,
    "nodeSilenceSeconds": 20,
    "metrics": {
        "service": True,
        "serviceMonitor": {"enabled": True, "labels": {"a": "b"}, "intervalSeconds": 15},
    },
    "podDisruptionBudget": {"enabled": True},
    "networkPolicy": {
        "enabled": True,
        "apiServerPorts": [6443],
        "metricsFrom": [{"namespaceSelector": {"matchLabels": {"team": "monitoring"}}}],
    },
    "rbac": {"aggregateClusterRoles": False},
    "serviceAccount": {"create": True, "name": "me", "annotations": {"a": "b"}},
    "fullnameOverride": "rtj",
    "podLabels": {"a": "b"},
    "podAnnotations": {"a": "b"},
    "resources": {"limits": {"cpu": 1, "memory": "1Gi"}},
    "priorityClassName": "system-cluster-critical",
    "nodeSelector": {"pool": "steady"},
    "tolerations": [{"key": "steady", "operator": "Exists"}],
    "affinity": {"podAntiAffinity": {}},
}


class EachKeyOnce(yaml.SafeLoader):
    """Refuses a key that is there twice, as Flux and kustomize do."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        """Return the mapping."""
        keys = [key.value for key, _ in node.value]
        assert len(keys) == len(set(keys)), keys
        return super().construct_mapping(node, deep)


class Tools:
    """The kubectl and helm of one API server."""

    def __init__(self, kubeconfig: Path) -> None:
        self._kubectl = [str(kubebox.binary("kubectl")), f"--kubeconfig={kubeconfig}"]
        self._helm = [str(kubebox.binary("helm")), f"--kubeconfig={kubeconfig}"]

    def kubectl(self, *args: str, stdin: Any = None, check: bool = True) -> str:
        """Return what kubectl printed, the errors too."""
        return _run([*self._kubectl, *args], stdin, check)

    def helm(self, *args: str, values: dict[str, Any] | None = None, check: bool = True) -> str:
        """Return what helm printed, the errors too; `values` go in as a file does."""
        return _run([*self._helm, *args, *(["--values=-"] if values else [])], values, check)

    def template(
        self,
        values: dict[str, Any] | None = None,
        release: str = "train",
        namespace: str = "default",
    ) -> str:
        """Return what the chart renders, as YAML."""
        return self.helm("template", release, str(CHART), "--namespace", namespace, values=values)

    def render(self, *args: Any, **kwargs: Any) -> list[dict[str, Any]]:
        """Return the objects of what `template` returns."""
        documents = yaml.load_all(self.template(*args, **kwargs), EachKeyOnce)
        return [document for document in documents if document]

    def can(self, verb: str, what: str, namespace: str, account: str, name: str = "") -> bool:
        """Return whether a service account may do that to a `resource.group[/subresource]`."""
        resource, _, subresource = what.partition("/")
        answer = self.kubectl(
            *("auth", "can-i", verb, f"{resource}/{name}" if name else resource),
            *(f"--namespace={namespace}", f"--subresource={subresource}"),
            f"--as=system:serviceaccount:{account}",
            check=False,
        )
        return answer.splitlines()[0] == "yes"

    def wait_until_can(self, *right: str) -> None:
        """Wait until that may be done: the authoriser learns of new rights by a watch."""
        wait_until(lambda: self.can(*right), what=f"the right {right}", timeout=60)


def _run(command: list[str], stdin: Any, check: bool) -> str:
    done = subprocess.run(
        command,
        input=None if stdin is None else json.dumps(stdin),
        capture_output=True,
        text=True,
        check=False,
    )
    assert not check or done.returncode == 0, done.stderr
    return done.stdout + done.stderr


@pytest.fixture(scope="module")
def tools(kube_apiserver: Path) -> Tools:
    """The tools of an API server that has the CRD."""
    install_crd(kube_apiserver)
    return Tools(kube_apiserver)


@pytest.fixture
def install(tools: Tools, namespace: str) -> Iterator[Any]:
    """`helm install` into a namespace of its own; uninstalled afterwards."""

    def run(**values: Any) -> str:
        # The CRD belongs to all tests of this API server, so not to a release.
        values["crds"] = {"enabled": False, "keep": True}
        tools.helm("install", "train", str(CHART), f"--namespace={namespace}", values=values)
        return f"{namespace}:train-rtj-operator"

    yield run
    tools.helm("uninstall", "train", f"--namespace={namespace}")


def one(objects: list[dict[str, Any]], kind: str) -> dict[str, Any]:
    """Return the only object of a kind."""
    (found,) = [item for item in objects if item["kind"] == kind]
    return found


def test_helm_lint_finds_nothing(tools: Tools) -> None:
    assert "0 chart(s) failed" in tools.helm("lint", "--strict", str(CHART))
    tools.helm("lint", "--strict", str(CHART), values=EVERY_VALUE)


@pytest.mark.parametrize("values", [None, EVERY_VALUE], ids=["defaults", "every value"])
def test_the_api_server_takes_all_that_is_rendered(
    tools: Tools, values: dict[str, Any] | None
) -> None:
    items = [item for item in tools.render(values) if item["kind"] != "ServiceMonitor"]
    objects = {"apiVersion": "v1", "kind": "List", "items": items}
    flags = ("--dry-run=server", "--validate=strict", "--server-side", "--force-conflicts")
    tools.kubectl("apply", *flags, "--filename=-", stdin=objects)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"replica": 2}, "replica"),
        ({"replicas": "2"}, "/replicas"),
        ({"replicas": -1}, "/replicas"),
        ({"crds": {"enabled": "yes"}}, "/crds/enabled"),
        ({"crds": {"kept": True}}, "kept"),
        ({"watchNamespaces": "default"}, "/watchNamespaces"),
        ({"watchNamespaces": ["a,b"]}, "/watchNamespaces/0"),
        ({"watchNamespaces": ["a", "a"]}, "/watchNamespaces"),
        ({"image": {"repository": "has space"}}, "/image/repository"),
        ({"image": {"repository": "registry/tagged:1.0"}}, "/image/repository"),
        ({"image": {"tag": ":2"}}, "/image/tag"),
        ({"image": {"digest": "0" * 64}}, "/image/digest"),
        ({"image": {"pullPolicy": "always"}}, "/image/pullPolicy"),
        ({"imagePullSecrets": ["registry"]}, "/imagePullSecrets/0"),
        ({"logLevel": "debug"}, "/logLevel"),
        ({"workers": 0}, "/workers"),
        ({"nodeSilenceSeconds": 5}, "/nodeSilenceSeconds"),
        ({"metrics": {"serviceMonitor": {"enabled": "yes"}}}, "/metrics/serviceMonitor/enabled"),
        ({"metrics": {"service": False, "serviceMonitor": {"enabled": True}}}, "/metrics/service"),
        ({"networkPolicy": {"apiServerPorts": []}}, "/networkPolicy/apiServerPorts"),
        ({"podDisruptionBudget": {"minAvailable": 1}}, "minAvailable"),
        ({"resources": {"limit": {}}}, "/resources"),
        ({"nodeSelector": {"a": True}}, "/nodeSelector/a"),
    ],
    ids=str,
)
def test_a_wrong_value_is_refused_by_name(
    tools: Tools, values: dict[str, Any], message: str
) -> None:
    answer = tools.helm("template", "train", str(CHART), values=values, check=False)
    assert "don't meet the specifications of the schema" in answer
    assert message in answer


def test_the_crd_is_the_generated_one_and_is_kept_at_uninstall_unless_told(tools: Tools) -> None:
    rendered = one(tools.render(), "CustomResourceDefinition")
    assert rendered["metadata"]["annotations"] == {"helm.sh/resource-policy": "keep"}
    as_helm_writes_numbers = json.loads(json.dumps(crd.manifest()["spec"]), parse_int=float)
    assert _numbers_as_float(rendered["spec"]) == as_helm_writes_numbers

    dropped = one(tools.render({"crds": {"keep": False}}), "CustomResourceDefinition")
    assert "annotations" not in dropped["metadata"]

    without = tools.render({"crds": {"enabled": False}})
    assert "CustomResourceDefinition" not in {item["kind"] for item in without}


def _numbers_as_float(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _numbers_as_float(child) for key, child in value.items()}
    if isinstance(value, list):
        return [_numbers_as_float(child) for child in value]
    if isinstance(value, str) and value.startswith("1e+"):
        return float(value)  # PyYAML takes 1e+12 for a string; Kubernetes does not
    return float(value) if type(value) is int else value


def test_the_values_reach_the_operator(tools: Tools) -> None:
    pod = one(tools.render(EVERY_VALUE), "Deployment")["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    plain = {item["name"]: item["value"] for item in container["env"] if "value" in item}
    assert container["image"] == "registry.example.com:5000/rtj:dev"
    assert plain == {
        "RTJ_NAMESPACES": "default,kube-public",
        "RTJ_LEASE": "rtj",
        "RTJ_LOG_LEVEL": "DEBUG",
        "RTJ_WORKERS": "2",
        "RTJ_RESYNC_SECONDS": "60",
        "RTJ_NODE_SILENCE_SECONDS": "20",
        "RTJ_HEALTH_PORT": "8080",
    }
    assert pod["serviceAccountName"] == "me"


def test_the_probes_ask_whether_it_works_and_whether_it_could(tools: Tools) -> None:
    (container,) = one(tools.render(), "Deployment")["spec"]["template"]["spec"]["containers"]
    assert container["livenessProbe"]["httpGet"] == {"path": "/healthz", "port": "health"}
    assert container["readinessProbe"]["httpGet"] == {"path": "/readyz", "port": "health"}


def test_prometheus_finds_every_operator_pod_and_keeps_the_labels_of_the_jobs(
    tools: Tools,
) -> None:
    objects = tools.render(EVERY_VALUE)
    labels = one(objects, "Deployment")["spec"]["template"]["metadata"]["labels"]
    service, monitor = one(objects, "Service"), one(objects, "ServiceMonitor")
    assert service["spec"]["selector"].items() <= labels.items()
    assert (
        monitor["spec"]["selector"]["matchLabels"].items() <= service["metadata"]["labels"].items()
    )
    (endpoint,) = monitor["spec"]["endpoints"]
    assert endpoint["port"] == service["spec"]["ports"][0]["name"]
    assert endpoint["honorLabels"] is True
    assert endpoint["interval"] == "15s"
    assert monitor["metadata"]["labels"]["a"] == "b"


def test_by_default_nothing_is_made_that_needs_other_crds_or_a_network_plugin(
    tools: Tools,
) -> None:
    kinds = {item["kind"] for item in tools.render()}
    assert not kinds & {"ServiceMonitor", "NetworkPolicy"}
    assert {"Service", "PodDisruptionBudget"} <= kinds
    without = tools.render({"metrics": {"service": False}})
    assert "Service" not in {item["kind"] for item in without}


def test_a_single_operator_pod_never_stops_a_drain(tools: Tools) -> None:
    for values in ({"replicas": 1}, {"podDisruptionBudget": {"enabled": False}}):
        kinds = {item["kind"] for item in tools.render(values)}
        assert "PodDisruptionBudget" not in kinds
    objects = tools.render({"replicas": 3})
    budget = one(objects, "PodDisruptionBudget")["spec"]
    labels = one(objects, "Deployment")["spec"]["template"]["metadata"]["labels"]
    assert budget["maxUnavailable"] == 1
    assert budget["selector"]["matchLabels"].items() <= labels.items()


def test_the_network_policy_lets_out_to_the_api_server_and_dns_only(tools: Tools) -> None:
    policy = one(tools.render(EVERY_VALUE), "NetworkPolicy")["spec"]
    assert policy["policyTypes"] == ["Ingress", "Egress"]
    out = {(port["protocol"], port["port"]) for rule in policy["egress"] for port in rule["ports"]}
    assert out == {("TCP", 6443), ("UDP", 53), ("TCP", 53)}
    (rule,) = policy["ingress"]
    assert rule["ports"] == [{"port": "health", "protocol": "TCP"}]
    assert rule["from"] == EVERY_VALUE["networkPolicy"]["metricsFrom"]
    (rule,) = one(tools.render({"networkPolicy": {"enabled": True}}), "NetworkPolicy")["spec"][
        "ingress"
    ]
    assert "from" not in rule


def test_without_a_tag_the_image_is_the_one_of_this_version(tools: Tools) -> None:
    (container,) = one(tools.render(), "Deployment")["spec"]["template"]["spec"]["containers"]
    version = yaml.safe_load((CHART / "Chart.yaml").read_text())["appVersion"]
    assert container["image"] == f"docker.io/library/rtj-operator:{version}"


def test_with_a_digest_the_image_is_that_one_whatever_the_tag(tools: Tools) -> None:
    digest = f"sha256:{'0a' * 32}"
    objects = tools.render({"image": {"repository": "a.b:5000/c/d", "tag": "x", "digest": digest}})
    (container,) = one(objects, "Deployment")["spec"]["template"]["spec"]["containers"]
    assert container["image"] == f"a.b:5000/c/d@{digest}"


def test_labels_of_a_user_come_beside_those_of_the_chart(tools: Tools) -> None:
    theirs = {"team": "ml", "app.kubernetes.io/instance": "theirs"}
    monitor = {"enabled": True, "labels": theirs}
    objects = tools.render({"podLabels": theirs, "metrics": {"serviceMonitor": monitor}})
    deployment, service = one(objects, "Deployment"), one(objects, "Service")
    pod = deployment["spec"]["template"]["metadata"]["labels"]
    assert pod == {**deployment["metadata"]["labels"], "team": "ml"}
    scraped = one(objects, "ServiceMonitor")["metadata"]["labels"]
    assert scraped == {**service["metadata"]["labels"], "team": "ml"}


def test_names_that_yaml_takes_for_something_else_stay_texts(tools: Tools) -> None:
    watched = ["null", "no", "2024", "0x1f", "3e5"]
    extras = {"networkPolicy": {"enabled": True}, "metrics": {"serviceMonitor": {"enabled": True}}}
    odd = {
        "fullnameOverride": "34",
        "priorityClassName": "on",
        "serviceAccount": {"name": "2020-01-01"},
        "podLabels": {"team": "56"},
    }
    usual = tools.template({"watchNamespaces": ["ml"], **extras})
    text = tools.template({"watchNamespaces": watched, **odd, **extras}, "1984", "12")
    assert not_texts(text) <= not_texts(usual)
    wide = tools.template({**odd, "serviceAccount": {"create": False, "name": "78"}}, "1984", "12")
    assert not_texts(wide) <= not_texts(usual)


def not_texts(text: str) -> set[str]:
    """Return the scalars that YAML 1.1, which Helm reads, takes for numbers and the like."""
    plain = {token.value for token in yaml.scan(text) if getattr(token, "plain", False)}
    return {scalar for scalar in plain if not isinstance(yaml.safe_load(scalar), str)}


def test_releases_whose_names_run_together_share_no_object(tools: Tools) -> None:
    def objects(release: str, namespace: str) -> set[tuple[str, str, str]]:
        values = {"crds": {"enabled": False}, "watchNamespaces": [f"{namespace}-jobs"]}
        metadata = [(o["kind"], o["metadata"]) for o in tools.render(values, release, namespace)]
        return {(kind, it.get("namespace", ""), it["name"]) for kind, it in metadata}

    assert objects("prod", "ml").isdisjoint(objects("rtj-operator", "ml-prod"))


@pytest.mark.parametrize("release", ["v1.2", "1x", "1.2", f"9.{'a' * 51}"])
def test_the_service_has_a_name_that_is_legal_for_services(tools: Tools, release: str) -> None:
    name = one(tools.render(release=release), "Service")["metadata"]["name"]
    assert re.fullmatch("[a-z]([-a-z0-9]{0,61}[a-z0-9])?", name)


def test_the_operator_pod_meets_the_restricted_pod_security_standard(
    tools: Tools, kubectl: Callable[..., str], namespace: str
) -> None:
    restrict(kubectl, namespace)
    tools.kubectl("create", "serviceaccount", "operator", f"--namespace={namespace}")
    template = one(tools.render(), "Deployment")["spec"]["template"]
    template["spec"]["serviceAccountName"] = "operator"
    pod = {"apiVersion": "v1", "kind": "Pod", **template}
    pod["metadata"]["name"] = "operator"
    create = ("create", "--dry-run=server", f"--namespace={namespace}", "--filename=-")
    tools.kubectl(*create, stdin=pod)

    del pod["spec"]["containers"][0]["securityContext"]["capabilities"]
    assert "violates PodSecurity" in tools.kubectl(*create, stdin=pod, check=False)


ALLOWED = [
    ("list", "resumabletrainingjobs.resumable.training"),
    ("delete", "resumabletrainingjobs.resumable.training"),
    ("update", "resumabletrainingjobs.resumable.training/status"),
    ("create", "pods"),
    ("delete", "pods"),
    ("get", "configmaps"),
    ("get", "persistentvolumeclaims"),
    ("create", "leases.coordination.k8s.io"),
    ("create", "events"),
    ("list", "events"),
]
FORBIDDEN = [
    ("update", "resumabletrainingjobs.resumable.training"),
    ("get", "secrets"),
    ("watch", "events"),
    ("delete", "events"),
    ("list", "volumeattachments.storage.k8s.io"),
    ("list", "configmaps"),
    ("delete", "persistentvolumeclaims"),
    ("update", "pods"),
    ("create", "pods/exec"),
    ("delete", "roles.rbac.authorization.k8s.io"),
    ("escalate", "roles.rbac.authorization.k8s.io"),
    ("delete", "leases.coordination.k8s.io"),
]


def test_cluster_wide_the_operator_may_do_its_work_everywhere_and_nothing_else(
    tools: Tools, install: Any
) -> None:
    account = install()
    for verb, what in ALLOWED:
        tools.wait_until_can(verb, what, "kube-public", account)
    for verb, what in FORBIDDEN:
        assert not tools.can(verb, what, "kube-public", account), (verb, what)
    tools.wait_until_can("get", "nodes", "default", account)
    assert not tools.can("delete", "nodes", "default", account)


def test_in_named_namespaces_the_operator_may_do_its_work_there_only(
    tools: Tools, install: Any, namespace: str
) -> None:
    account = install(watchNamespaces=["kube-public"])
    for verb, what in ALLOWED:
        tools.wait_until_can(verb, what, "kube-public", account)
        if what != "leases.coordination.k8s.io":
            assert not tools.can(verb, what, namespace, account), (verb, what)
        assert not tools.can(verb, what, "default", account), (verb, what)
    for verb, what in FORBIDDEN:
        assert not tools.can(verb, what, "kube-public", account), (verb, what)
    # Leader election where it runs, and the heartbeats of nodes.
    tools.wait_until_can("create", "leases.coordination.k8s.io", namespace, account)
    tools.wait_until_can(
        "update", "leases.coordination.k8s.io", namespace, account, "train-rtj-operator"
    )
    assert not tools.can("update", "leases.coordination.k8s.io", namespace, account, "rtj-operator")
    tools.wait_until_can("get", "nodes", "default", account)
    tools.wait_until_can("watch", "leases.coordination.k8s.io", "kube-node-lease", account)
    assert not tools.can("update", "leases.coordination.k8s.io", "kube-node-lease", account)


def test_the_operator_may_grant_a_trainer_its_one_lease_and_nothing_more(
    tools: Tools, install: Any
) -> None:
    account = install()
    create = ("create", "--namespace=kube-public", "--filename=-", "--dry-run=server")
    as_operator = f"--as=system:serviceaccount:{account}"

    def role(resource: str) -> dict[str, Any]:
        group = "coordination.k8s.io" if resource == "leases" else ""
        verbs = ["get", "update", "patch"]
        rule = {"apiGroups": [group], "resources": [resource], "resourceNames": ["job"]}
        return {
            "apiVersion": "rbac.authorization.k8s.io/v1",
            "kind": "Role",
            "metadata": {"name": "job-trainer"},
            "rules": [{**rule, "verbs": verbs}],
        }

    for verb, what in (
        ("create", "roles.rbac.authorization.k8s.io"),
        ("patch", "leases.coordination.k8s.io"),
    ):
        tools.wait_until_can(verb, what, "kube-public", account)
    assert "created" in tools.kubectl(*create, as_operator, stdin=role("leases"))
    answer = tools.kubectl(*create, as_operator, stdin=role("secrets"), check=False)
    assert "attempting to grant RBAC permissions not currently held" in answer


def test_people_use_jobs_through_the_roles_of_the_cluster(tools: Tools, install: Any) -> None:
    jobs, account = "resumabletrainingjobs.resumable.training", "default:a-person"

    def bound_to(role: str) -> None:
        subject = f"--serviceaccount={account}"
        tools.kubectl("delete", "rolebinding", "people", "--ignore-not-found")
        tools.kubectl("create", "rolebinding", "people", f"--clusterrole={role}", subject)

    install()
    wait_until(
        lambda: (
            "resumabletrainingjobs" in tools.kubectl("get", "clusterrole", "edit", "-o", "json")
        ),
        what="the rules are in the role edit",
        timeout=60,
    )
    bound_to("view")
    tools.wait_until_can("list", jobs, "default", account)
    assert not tools.can("create", jobs, "default", account)
    bound_to("edit")
    tools.wait_until_can("create", jobs, "default", account)
    tools.wait_until_can("patch", jobs, "default", account)
    assert not tools.can("update", f"{jobs}/status", "default", account)
    tools.kubectl("delete", "rolebinding", "people")


def test_two_namespaces_can_each_have_a_release_of_the_same_name(
    tools: Tools, install: Any
) -> None:
    install(watchNamespaces=["default"])
    flags = ("--namespace=kube-public", "--dry-run=server", "--set=crds.enabled=false")
    told = tools.helm("install", "train", str(CHART), *flags, "--set=watchNamespaces={kube-public}")
    assert "kubectl --namespace kube-public rollout status" in told


def test_the_notes_tell_the_next_command(tools: Tools) -> None:
    flags = ("--dry-run=client", "--namespace=rtj-system", "--set=crds.enabled=false")
    notes = tools.helm("install", "train", str(CHART), *flags)
    assert "kubectl --namespace rtj-system rollout status deployment/train-rtj-operator" in notes
    assert "kubectl get rtj --all-namespaces --watch" in notes
    assert "kubectl get crd resumabletrainingjobs.resumable.training" in notes
