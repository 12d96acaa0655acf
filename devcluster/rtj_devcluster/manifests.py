"""What every cluster has from the start: the default StorageClass, and its DNS as a service."""

from typing import Any

from rtj_devcluster.addresses import Addresses

STORAGE_CLASS = "shared"
PROVISIONER = "devcluster.resumable.training/shared"
DNS_PORT = 53
_DNS_PORTS = [
    {"name": "dns", "protocol": "UDP", "port": DNS_PORT},
    {"name": "dns-tcp", "protocol": "TCP", "port": DNS_PORT},
]


def system_objects(addresses: Addresses) -> dict[str, Any]:
    """Return a List of the objects that ``up`` applies."""
    items = [_storage_class(), _dns_service(addresses), _dns_endpoints(addresses)]
    return {"apiVersion": "v1", "kind": "List", "items": items}


def _storage_class() -> dict[str, Any]:
    return {
        "apiVersion": "storage.k8s.io/v1",
        "kind": "StorageClass",
        "metadata": {
            "name": STORAGE_CLASS,
            "annotations": {"storageclass.kubernetes.io/is-default-class": "true"},
        },
        "provisioner": PROVISIONER,
        "reclaimPolicy": "Delete",
        "volumeBindingMode": "Immediate",
    }


def _dns_service(addresses: Addresses) -> dict[str, Any]:
    """Without a selector: CoreDNS is a process on the host, not a pod."""
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": "kube-dns", "namespace": "kube-system"},
        "spec": {"clusterIP": str(addresses.dns_service), "ports": _DNS_PORTS},
    }


def _dns_endpoints(addresses: Addresses) -> dict[str, Any]:
    return {
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": {
            "name": "kube-dns-host",
            "namespace": "kube-system",
            "labels": {"kubernetes.io/service-name": "kube-dns"},
        },
        "addressType": "IPv4",
        "endpoints": [{"addresses": [addresses.gateway], "conditions": {"ready": True}}],
        "ports": _DNS_PORTS,
    }


def corefile(addresses: Addresses, kubeconfig: str) -> str:
    """Return the configuration of the cluster's DNS, which knows the cluster's names only."""
    return f"""\
.:{DNS_PORT} {{
  bind {addresses.gateway}
  errors
  kubernetes cluster.local in-addr.arpa {{
    kubeconfig {kubeconfig}
    pods insecure
  }}
  cache 5
}}
"""
