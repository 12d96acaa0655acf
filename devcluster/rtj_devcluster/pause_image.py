"""The image that holds a pod's namespaces open: one layer with one program of ours."""

import hashlib
import io
import json
import tarfile
from pathlib import Path
from typing import Any

from rtj_devcluster import kubebox
from rtj_devcluster.containerd import MANIFEST_TYPE
from rtj_devcluster.shell import run

NAME = "docker.io/library/rtj-pause:1"
_CONFIG_TYPE = "application/vnd.oci.image.config.v1+json"
_LAYER_TYPE = "application/vnd.oci.image.layer.v1.tar"


def write(target: Path) -> None:
    """Write the image's blobs, named by their sha256, and ``manifest.json``."""

    def put(content: bytes) -> dict[str, Any]:
        digest = hashlib.sha256(content).hexdigest()
        (target / digest).write_bytes(content)
        return {"digest": f"sha256:{digest}", "size": len(content)}

    layer = io.BytesIO()
    with tarfile.open(fileobj=layer, mode="w") as archive:
        entry = tarfile.TarInfo("pause")
        program = kubebox.binary("pause").read_bytes()
        entry.size, entry.mode = len(program), 0o755
        archive.addfile(entry, io.BytesIO(program))
    rootfs = put(layer.getvalue())
    config = {
        "architecture": _architecture(),
        "os": "linux",
        "config": {"Entrypoint": ["/pause"], "User": "65532:65532"},
        "rootfs": {"type": "layers", "diff_ids": [rootfs["digest"]]},
    }
    manifest = {
        "schemaVersion": 2,
        "mediaType": MANIFEST_TYPE,
        "config": {"mediaType": _CONFIG_TYPE, **put(json.dumps(config).encode())},
        "layers": [{"mediaType": _LAYER_TYPE, **rootfs}],
    }
    (target / "manifest.json").write_text(json.dumps(manifest))


def _architecture() -> str:
    """Return this machine's architecture in the words of the image-spec."""
    machine = run(["uname", "-m"]).stdout.strip()
    return {"x86_64": "amd64", "aarch64": "arm64"}.get(machine, machine)
