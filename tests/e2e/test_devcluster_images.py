"""The images of nodes: a new one under an old name, over and over, as every build makes them."""

import hashlib
from pathlib import Path

import pytest
from rtj_devcluster import containerd, oci_image, packages

pytestmark = pytest.mark.e2e

NAME = "docker.io/library/rtj-devcluster-test:2"
SHARED = [{f"shared-{layer}": b"the same in every version"} for layer in range(6)]
VERSIONS = 40
"""containerd's collector starts at every hundredth change: it comes at all moments of an import."""


@pytest.fixture
def blobs(tmp_path: Path) -> Path:
    packages.ensure(packages.NODES)
    folder = tmp_path / "blobs"
    folder.mkdir()
    return folder


def version(blobs: Path, number: int) -> str:
    """Write an image whose last layer alone is its own; return its manifest's digest."""
    oci_image.write(blobs, [*SHARED, {"own": f"version {number}".encode()}], {})
    content = (blobs / "manifest.json").read_bytes()
    digest = hashlib.sha256(content).hexdigest()
    (blobs / digest).write_bytes(content)
    return f"sha256:{digest}"


def test_a_name_goes_from_image_to_image_without_a_layer_lost(tmp_path: Path, blobs: Path) -> None:
    with containerd.running(tmp_path / "root", tmp_path) as socket:
        for number in range(VERSIONS):
            digest = version(blobs, number)
            containerd.import_images(socket, {NAME: digest}, blobs)
            assert containerd.images_of(socket) == {NAME: digest}
    kept = tmp_path / "root" / "io.containerd.content.v1.content" / "blobs" / "sha256"
    needed = {each.removeprefix("sha256:") for each in containerd.blobs_of(blobs, digest)}
    assert {path.name for path in kept.iterdir()} == needed
