"""Writing an image of a few files without a builder: its layers, configuration and manifest.

See the OCI image-spec; every blob lies in a file named by its sha256.
"""

import hashlib
import io
import json
import tarfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rtj_devcluster.containerd import MANIFEST_TYPE
from rtj_devcluster.shell import run

_CONFIG_TYPE = "application/vnd.oci.image.config.v1+json"
_LAYER_TYPE = "application/vnd.oci.image.layer.v1.tar"


def write(target: Path, layers: Sequence[Mapping[str, bytes]], config: dict[str, Any]) -> None:
    """Write an image's blobs, and ``manifest.json``, which is its manifest.

    Args:
        target: A folder.
        layers: The programs of each layer by their paths, the lowest layer first.
        config: How a container of it runs, as the image-spec's ``config``.
    """

    def put(content: bytes) -> dict[str, Any]:
        digest = hashlib.sha256(content).hexdigest()
        (target / digest).write_bytes(content)
        return {"digest": f"sha256:{digest}", "size": len(content)}

    rootfs = [put(_archive(programs)) for programs in layers]
    image = {
        "architecture": _architecture(),
        "os": "linux",
        "config": config,
        "rootfs": {"type": "layers", "diff_ids": [layer["digest"] for layer in rootfs]},
    }
    manifest = {
        "schemaVersion": 2,
        "mediaType": MANIFEST_TYPE,
        "config": {"mediaType": _CONFIG_TYPE, **put(json.dumps(image).encode())},
        "layers": [{"mediaType": _LAYER_TYPE, **layer} for layer in rootfs],
    }
    (target / "manifest.json").write_text(json.dumps(manifest))


def _archive(programs: Mapping[str, bytes]) -> bytes:
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as archive:
        for path, program in programs.items():
            entry = tarfile.TarInfo(path)
            entry.size, entry.mode = len(program), 0o755
            archive.addfile(entry, io.BytesIO(program))
    return packed.getvalue()


def _architecture() -> str:
    """Return this machine's architecture in the words of the image-spec."""
    machine = run(["uname", "-m"]).stdout.strip()
    return {"x86_64": "amd64", "aarch64": "arm64"}.get(machine, machine)
