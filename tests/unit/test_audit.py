"""Reading an audit log, and comparing what was done with what may be done."""

import json
from pathlib import Path

import pytest

from tests.integration.audit import (
    ANY,
    Access,
    granted,
    lines_after,
    missing,
    unused,
    used,
)

pytestmark = pytest.mark.unit

OPERATOR = "system:serviceaccount:rtj-system:operator"
GROUP = "coordination.k8s.io"


def line(verb: str, resource: str, stage: str = "ResponseComplete", **target: str) -> str:
    """Return one line of a log, as an API server writes it at level Metadata."""
    other = {name: target.pop(name) for name in ("user", "as_user") if name in target}
    event = {
        "kind": "Event",
        "apiVersion": "audit.k8s.io/v1",
        "level": "Metadata",
        "stage": stage,
        "requestURI": "/",
        "verb": verb,
        "user": {"username": other.get("user", OPERATOR), "groups": ["system:authenticated"]},
        "objectRef": {"resource": resource, "apiVersion": "v1", **target},
        "responseStatus": {"metadata": {}, "code": 200},
    }
    if "as_user" in other:
        event["impersonatedUser"] = {"username": other["as_user"]}
    return f"{json.dumps(event)}\n"


LOG = [
    line("list", "pods"),
    line("watch", "leases", stage="ResponseStarted", apiGroup=GROUP, namespace="kube-node-lease"),
    line("update", "jobs", apiGroup="g", namespace="a", name="job", subresource="status"),
    line("update", "leases", apiGroup=GROUP, namespace="rtj-system", name="rtj-operator"),
    line("get", "secrets", user="admin", namespace="a", name="s"),
    line("delete", "pods", user="admin", as_user=OPERATOR, namespace="a", name="p"),
    json.dumps({"stage": "ResponseComplete", "verb": "get", "user": {"username": OPERATOR}}) + "\n",
]
OBJECTS = [
    {
        "kind": "ClusterRole",
        "metadata": {"name": "everywhere"},
        "rules": [
            {"apiGroups": [""], "resources": ["pods"], "verbs": ["list", "delete"]},
            {"apiGroups": ["g"], "resources": ["jobs/status"], "verbs": ["update"]},
            {"apiGroups": [GROUP], "resources": ["leases"], "verbs": ["watch"]},
        ],
    },
    {
        "kind": "Role",
        "metadata": {"name": "leader", "namespace": "rtj-system"},
        "rules": [
            {
                "apiGroups": [GROUP],
                "resources": ["leases"],
                "resourceNames": ["rtj-operator"],
                "verbs": ["get", "update"],
            }
        ],
    },
    {
        "kind": "ClusterRoleBinding",
        "metadata": {"name": "everywhere"},
        "roleRef": {"kind": "ClusterRole", "name": "everywhere"},
        "subjects": [{"kind": "ServiceAccount", "namespace": "rtj-system", "name": "operator"}],
    },
    {
        "kind": "RoleBinding",
        "metadata": {"name": "leader", "namespace": "rtj-system"},
        "roleRef": {"kind": "Role", "name": "leader"},
        "subjects": [{"kind": "ServiceAccount", "namespace": "rtj-system", "name": "operator"}],
    },
]


def test_a_log_tells_what_each_user_did_in_its_own_name() -> None:
    uses = used(LOG)
    assert uses[OPERATOR] == {
        Access("list", "", "pods", "", ""),
        Access("watch", GROUP, "leases", "kube-node-lease", ""),
        Access("update", "g", "jobs/status", "a", "job"),
        Access("update", GROUP, "leases", "rtj-system", "rtj-operator"),
    }
    assert uses["admin"] == {Access("get", "", "secrets", "a", "s")}


def test_a_line_that_is_still_being_written_is_left_out(tmp_path: Path) -> None:
    log = tmp_path / "audit.log"
    log.write_text("".join(LOG)[:-10])
    begins = log.read_text().index(LOG[3])
    for offset in (begins - 5, begins):
        assert used(lines_after(log, offset)) == used(LOG[3:-1])
    assert used(lines_after(log, 0)) == used(LOG[:-1])


def test_roles_grant_where_they_are_bound() -> None:
    grants = granted(OBJECTS)[OPERATOR]
    assert Access("list", "", "pods", ANY) in grants
    assert Access("get", GROUP, "leases", "rtj-system", "rtj-operator") in grants
    assert len(grants) == 6


def test_a_cluster_role_bound_in_a_namespace_grants_there_only() -> None:
    bound = {**OBJECTS[2], "kind": "RoleBinding", "metadata": {"name": "b", "namespace": "a"}}
    grants = granted([OBJECTS[0], bound])[OPERATOR]
    assert missing([Access("delete", "", "pods", "a", "p")], grants) == []
    elsewhere = Access("delete", "", "pods", "b", "p")
    assert missing([elsewhere, Access("list", "", "pods", "", "")], grants) == [
        elsewhere,
        Access("list", "", "pods", "", ""),
    ]


def test_what_was_granted_and_not_used_is_found() -> None:
    left = unused(used(LOG)[OPERATOR], granted(OBJECTS)[OPERATOR])
    assert [str(right) for right in left] == [
        "delete pods in '*'",
        "get leases.coordination.k8s.io 'rtj-operator' in 'rtj-system'",
    ]


def test_what_was_used_and_not_granted_is_found() -> None:
    log = [
        *LOG,
        line("get", "secrets", namespace="a", name="s"),
        line("update", "leases", apiGroup=GROUP, namespace="rtj-system", name="another"),
    ]
    found = missing(used(log)[OPERATOR], granted(OBJECTS)[OPERATOR])
    assert [(use.verb, use.resource, use.name) for use in found] == [
        ("get", "secrets", "s"),
        ("update", "leases", "another"),
    ]
