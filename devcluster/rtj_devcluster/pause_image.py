"""The image that holds a pod's namespaces open: one layer with one program of ours."""

from pathlib import Path

from rtj_devcluster import kubebox, oci_image

NAME = "docker.io/library/rtj-pause:1"


def write(target: Path) -> None:
    """Write the image's blobs, named by their sha256, and ``manifest.json``."""
    programs = {"pause": kubebox.binary("pause").read_bytes()}
    oci_image.write(target, [programs], {"Entrypoint": ["/pause"], "User": "65532:65532"})
