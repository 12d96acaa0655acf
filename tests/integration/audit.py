"""Rights granted beside rights used: an API server's audit log compared with a chart's roles.

Both become sets of the same thing, an `Access`: what the log tells names one object in one
namespace, what a role grants may hold for every name and every namespace.
"""

import json
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ANY = "*"


@dataclass(frozen=True, order=True)
class Access:
    """One verb on one resource."""

    verb: str
    group: str
    resource: str
    """With its subresource, as roles write it: pods/status."""
    namespace: str
    """ANY where it is granted in all; empty for a request across them, or outside of any."""
    name: str = ANY
    """ANY where it is granted for all; empty for a request that names none, such as a list."""

    def covers(self, use: "Access") -> bool:
        """Whether this, granted, allows that use."""
        return (
            (self.verb, self.group, self.resource) == (use.verb, use.group, use.resource)
            and self.namespace in (ANY, use.namespace)
            and self.name in (ANY, use.name)
        )

    def __str__(self) -> str:
        resource = f"{self.resource}.{self.group}" if self.group else self.resource
        name = "" if self.name == ANY else f" {self.name!r}"
        return f"{self.verb} {resource}{name} in {self.namespace or 'all namespaces'!r}"


def lines_after(log: Path, offset: int) -> Iterator[str]:
    """Yield the lines of a log that begin at an offset or after it, which may be inside of one."""
    with log.open(errors="replace") as file:
        if offset:
            file.seek(offset - 1)
            file.readline()
        yield from file


def used(lines: Iterable[str]) -> dict[str, set[Access]]:
    """Return what each user did, from the lines of an audit log of level Metadata or above.

    Requests for no resource (discovery, health) are nobody's business; requests that were made in
    another's name are not that other's. A line without its end is still being written.
    """
    found: dict[str, set[Access]] = defaultdict(set)
    for line in lines:
        if not line.endswith("\n"):
            continue
        event = json.loads(line)
        target = event.get("objectRef")
        if not target or "impersonatedUser" in event:
            continue
        access = Access(
            event["verb"],
            target.get("apiGroup", ""),
            "/".join(filter(None, (target["resource"], target.get("subresource")))),
            target.get("namespace", ""),
            target.get("name", ""),
        )
        found[event["user"]["username"]].add(access)
    return dict(found)


def granted(objects: Iterable[Mapping[str, Any]]) -> dict[str, set[Access]]:
    """Return what Roles, ClusterRoles and their bindings grant to each service account."""
    objects = list(objects)
    roles = {
        (role["kind"], role["metadata"].get("namespace", ANY), role["metadata"]["name"]): role
        for role in objects
        if role["kind"] in ("Role", "ClusterRole")
    }
    found: dict[str, set[Access]] = defaultdict(set)
    for binding in objects:
        if binding["kind"] not in ("RoleBinding", "ClusterRoleBinding"):
            continue
        namespace = binding["metadata"].get("namespace", ANY)
        reference = binding["roleRef"]
        home = namespace if reference["kind"] == "Role" else ANY
        role = roles[reference["kind"], home, reference["name"]]
        for subject in binding["subjects"]:
            account = f"system:serviceaccount:{subject['namespace']}:{subject['name']}"
            for rule in role["rules"]:
                found[account].update(_expanded(rule, namespace))
    return dict(found)


def _expanded(rule: Mapping[str, Any], namespace: str) -> Iterator[Access]:
    for group in rule["apiGroups"]:
        for resource in rule["resources"]:
            for verb in rule["verbs"]:
                for name in rule.get("resourceNames") or [ANY]:
                    yield Access(verb, group, resource, namespace, name)


def missing(uses: Iterable[Access], grants: Iterable[Access]) -> list[Access]:
    """Return the uses that nothing allows."""
    grants = list(grants)
    return sorted(use for use in uses if not any(grant.covers(use) for grant in grants))


def unused(uses: Iterable[Access], grants: Iterable[Access]) -> list[Access]:
    """Return the grants of which no use was made."""
    uses = list(uses)
    return sorted(grant for grant in grants if not any(grant.covers(use) for use in uses))
