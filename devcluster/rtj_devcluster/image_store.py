"""The images that nodes have: unpacked once, shared by all nodes.

An image is imported into one containerd folder, the *store*. A node that starts
gets the store's files as hard links, which takes a second where an import takes
minutes: containerd never changes a blob or an unpacked layer. A node that runs
already is sent the blobs that it lacks.

Every change makes a new version of the store beside the old one, and then names
it in the index: whoever is killed on the way leaves the old one as it was, and
nodes can start from it meanwhile.

``<state root>/.images/blobs``         manifests, configurations and layers by sha256
``<state root>/.images/index.json``    the images, and the number of the store that has them
``<state root>/.images/containerd-N``  the store: root folder of a containerd
"""

import hashlib
import json
import re
import shutil
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

from rtj_devcluster import containerd, kubebox, pause_image
from rtj_devcluster.paths import state_root, write_atomically
from rtj_devcluster.shell import run
from rtj_devcluster.slots import locked

_DATABASES = (
    "io.containerd.metadata.v1.bolt/meta.db",
    "io.containerd.snapshotter.v1.overlayfs/metadata.db",
)
"""What containerd writes into in place, so that a node needs a copy of its own."""


def folder() -> Path:
    """Return the folder of the image store."""
    return state_root() / ".images"


@dataclass(frozen=True)
class Image:
    """One image of the store."""

    identity: str
    """What its maker calls this very version of it."""
    manifest: str
    """Digest of its manifest."""


@dataclass(frozen=True)
class _Index:
    """What ``index.json`` says."""

    version: int
    """Number of the containerd folder that has these images."""
    images: dict[str, Image]

    @property
    def root(self) -> Path:
        return folder() / f"containerd-{self.version}"


def _index() -> _Index:
    try:
        listed = json.loads((folder() / "index.json").read_text())
    except FileNotFoundError:
        return _Index(0, {})
    named = {name: Image(**fields) for name, fields in listed["images"].items()}
    return _Index(listed["version"], named)


def images() -> dict[str, Image]:
    """Return the images that the store has, by full name."""
    return _index().images


def _blobs() -> Path:
    return folder() / "blobs"


def add(name: str, identity: str, write: Callable[[Path], None]) -> None:
    """Put an image into the store, unless this very version of it is there.

    Args:
        name: Its full name, such as ``docker.io/library/x:dev``.
        identity: What changes when the image does.
        write: Writes the image into the empty folder that it is given: ``manifest.json``, and the
            blobs that this names in files named by the hexadecimal part of their digests.
    """
    if _has(name, identity):
        return
    with locked(".images.write"):
        if _has(name, identity):
            return  # Another process has put it there while this one waited.
        manifest = _take_in(write)
        old = _index()
        new = _Index(old.version + 1, {**old.images, name: Image(identity, manifest)})
        shutil.rmtree(new.root, ignore_errors=True)
        if old.images:
            _copy(old.root, new.root)
        with containerd.running(new.root, folder()) as socket:
            containerd.import_images(socket, {name: manifest}, _blobs())
        with locked(".images"):  # Nobody copies from the old folder now.
            write_atomically(folder() / "index.json", json.dumps(asdict(new), indent=2))
            _sweep(new)


def _has(name: str, identity: str) -> bool:
    present = images().get(name)
    return present is not None and present.identity == identity


def _sweep(index: _Index) -> None:
    """Remove what no image of the index needs."""
    for root in folder().glob("containerd-*"):
        if root != index.root:
            shutil.rmtree(root, ignore_errors=True)
    manifests = [image.manifest for image in index.images.values()]
    used = {each for digest in manifests for each in containerd.blobs_of(_blobs(), digest)}
    for path in _blobs().iterdir():
        if f"sha256:{path.name}" not in used:
            path.unlink()


def _copy(source: Path, target: Path) -> None:
    """Copy a containerd's folder by hard links, but for what containerd writes in place."""
    run(["cp", "--archive", "--link", source, target])
    for database in _DATABASES:
        (target / database).unlink()
        shutil.copy2(source / database, target / database)


def _take_in(write: Callable[[Path], None]) -> str:
    """Let an image be written and move its blobs to the others; return its manifest's digest."""
    written = folder() / "written"
    shutil.rmtree(written, ignore_errors=True)
    written.mkdir(parents=True)
    _blobs().mkdir(exist_ok=True)
    write(written)
    manifest = hashlib.sha256((written / "manifest.json").read_bytes()).hexdigest()
    (written / "manifest.json").rename(written / manifest)
    for path in written.iterdir():
        if re.fullmatch("[0-9a-f]{64}", path.name):
            path.rename(_blobs() / path.name)
    return f"sha256:{manifest}"


def seed(root: Path) -> None:
    """Give a node that has no disk yet the store's images."""
    add(pause_image.NAME, str(kubebox.binaries()), pause_image.write)
    if any(root.iterdir()):
        return
    unfinished = root.with_name(f"{root.name}.unfinished")
    shutil.rmtree(unfinished, ignore_errors=True)
    with locked(".images", shared=True):
        _copy(_index().root, unfinished)
    root.rmdir()
    unfinished.rename(root)


def provide(socket: Path) -> None:
    """Send a running containerd the images of the store that it does not have."""
    with locked(".images", shared=True):
        present = containerd.images_of(socket)
        wanted = {name: image.manifest for name, image in images().items()}
        missing = {name: each for name, each in wanted.items() if present.get(name) != each}
        if missing:
            containerd.import_images(socket, missing, _blobs())
