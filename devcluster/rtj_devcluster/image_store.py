"""The images that nodes have: unpacked once, shared by all nodes.

An image is imported into one containerd folder, the *store*. A node that starts
gets the store's files as hard links, which takes a second where an import takes
minutes: containerd never changes a blob or an unpacked layer. A node that runs
already is sent the blobs that it lacks.

``<state root>/.images/blobs``        manifests, configurations and layers by sha256
``<state root>/.images/images.json``  name of each image → which version of it is here
``<state root>/.images/containerd``   the store: root folder of a containerd
"""

import hashlib
import io
import json
import re
import shutil
import subprocess
import tarfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from rtj_devcluster import kubebox
from rtj_devcluster.errors import CommandFailedError
from rtj_devcluster.paths import state_root, write_atomically
from rtj_devcluster.shell import run, wait_until
from rtj_devcluster.slots import locked

PAUSE_IMAGE = "docker.io/library/rtj-pause:1"
"""The image that holds a pod's namespaces open."""

_MANIFEST = "application/vnd.oci.image.manifest.v1+json"
_CONFIG = "application/vnd.oci.image.config.v1+json"
_LAYER = "application/vnd.oci.image.layer.v1.tar"
_DIES_WITH_CALLER = ("setpriv", "--pdeathsig", "KILL")
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


def images() -> dict[str, Image]:
    """Return the images that the store has, by full name."""
    try:
        listed = json.loads((folder() / "images.json").read_text())
        return {name: Image(**fields) for name, fields in listed.items()}
    except (FileNotFoundError, TypeError):  # Nothing yet, or written by another version of this.
        return {}


def _blob(digest: str) -> Path:
    return folder() / "blobs" / digest.removeprefix("sha256:")


def _blobs_of(manifest_digest: str) -> list[str]:
    manifest = json.loads(_blob(manifest_digest).read_text())
    layers = [layer["digest"] for layer in manifest["layers"]]
    return [manifest_digest, manifest["config"]["digest"], *layers]


def add(name: str, identity: str, write: Callable[[Path], None]) -> None:
    """Put an image into the store, unless this very version of it is there.

    Args:
        name: Its full name, such as ``docker.io/library/x:dev``.
        identity: What changes when the image does.
        write: Writes the image into the empty folder that it is given: ``manifest.json``, and the
            blobs that this names in files named by the hexadecimal part of their digests.
    """
    with locked(".images"):
        present = images().get(name)
        if present and present.identity == identity:
            return
        manifest = _take_in(write)
        with _store() as socket:
            _send(socket, {name: manifest})
        # Named only now: an image that is named is whole.
        named = {**images(), name: Image(identity, manifest)}
        listed = {each: asdict(image) for each, image in named.items()}
        write_atomically(folder() / "images.json", json.dumps(listed, indent=2))
        used = {blob for image in named.values() for blob in _blobs_of(image.manifest)}
        for path in (folder() / "blobs").iterdir():
            if f"sha256:{path.name}" not in used:
                path.unlink()


def _take_in(write: Callable[[Path], None]) -> str:
    """Let an image be written and move its blobs to the others; return its manifest's digest."""
    written = folder() / "written"
    shutil.rmtree(written, ignore_errors=True)
    written.mkdir(parents=True)
    (folder() / "blobs").mkdir(exist_ok=True)
    write(written)
    manifest = hashlib.sha256((written / "manifest.json").read_bytes()).hexdigest()
    (written / "manifest.json").rename(written / manifest)
    for path in written.iterdir():
        if re.fullmatch("[0-9a-f]{64}", path.name):
            path.rename(folder() / "blobs" / path.name)
    return f"sha256:{manifest}"


def seed(root: Path) -> None:
    """Give a node that has no disk yet the store's images."""
    add(PAUSE_IMAGE, str(kubebox.binaries()), _write_pause)
    if any(root.iterdir()):
        return
    unfinished = root.with_name(f"{root.name}.unfinished")
    shutil.rmtree(unfinished, ignore_errors=True)
    store = folder() / "containerd"
    with locked(".images"):
        run(["cp", "--archive", "--link", store, unfinished])
        for database in _DATABASES:
            (unfinished / database).unlink()
            shutil.copy2(store / database, unfinished / database)
    root.rmdir()
    unfinished.rename(root)


def provide(socket: Path) -> None:
    """Send a running containerd the images of the store that it does not have."""
    listed = _ctr(socket, "images", "list").splitlines()[1:]
    present = {line.split()[0]: line.split()[2] for line in listed}
    missing = {
        name: image.manifest
        for name, image in images().items()
        if present.get(name) != image.manifest
    }
    if missing:
        _send(socket, missing)


def _ctr_command(socket: Path, *arguments: str) -> list[str]:
    return ["ctr", f"--address={socket}", "--namespace=k8s.io", *arguments]


def _ctr(socket: Path, *arguments: str) -> str:
    return run(_ctr_command(socket, *arguments)).stdout


def _send(socket: Path, wanted: dict[str, str]) -> None:
    """Import images, sending only the blobs that are not there."""
    present = set(_ctr(socket, "content", "list", "--quiet").split())
    blobs = {blob for digest in wanted.values() for blob in _blobs_of(digest)}
    command = _ctr_command(socket, "images", "import", "-")
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
    ) as importer:
        if importer.stdin is None or importer.stderr is None:
            raise CommandFailedError("ctr was started without pipes")
        try:
            with tarfile.open(fileobj=importer.stdin, mode="w|") as archive:
                _fill(archive, wanted, sorted(blobs - present))
            importer.stdin.close()
        except BrokenPipeError:
            pass  # It has ended, and says below why.
        words = importer.stderr.read().decode(errors="replace")
        if importer.wait() != 0:
            raise CommandFailedError(f"images {sorted(wanted)} cannot be imported: {words}")


def _fill(archive: tarfile.TarFile, wanted: dict[str, str], blobs: list[str]) -> None:
    def put(name: str, content: bytes) -> None:
        entry = tarfile.TarInfo(name)
        entry.size = len(content)
        archive.addfile(entry, io.BytesIO(content))

    put("oci-layout", b'{"imageLayoutVersion": "1.0.0"}')
    for digest in blobs:
        archive.add(_blob(digest), arcname=f"blobs/sha256/{_blob(digest).name}")
    manifests = [
        {
            "mediaType": _MANIFEST,
            "digest": digest,
            "size": _blob(digest).stat().st_size,
            "annotations": {"io.containerd.image.name": name},
        }
        for name, digest in wanted.items()
    ]
    put("index.json", json.dumps({"schemaVersion": 2, "manifests": manifests}).encode())


@contextmanager
def _store() -> Iterator[Path]:
    """Run a containerd on the store; its mounts are its own and end with it."""
    root, socket = folder() / "containerd", folder() / "containerd.sock"
    root.mkdir(parents=True, exist_ok=True)
    socket.unlink(missing_ok=True)
    config = folder() / "containerd.toml"
    config.write_text(
        f'version = 2\nroot = "{root}"\nstate = "{folder() / "state"}"\n'
        f'disabled_plugins = ["io.containerd.grpc.v1.cri"]\n[grpc]\n  address = "{socket}"\n'
    )
    with (folder() / "containerd.log").open("wb") as log:
        containerd = subprocess.Popen(
            [*_DIES_WITH_CALLER, "unshare", "--mount", "containerd", f"--config={config}"],
            stdout=log,
            stderr=log,
        )
    try:
        wait_until(
            lambda: run(_ctr_command(socket, "version"), check=False).returncode == 0,
            what="the image store's containerd answers",
            timeout=30,
        )
        yield socket
    finally:
        containerd.terminate()
        containerd.wait()


def _write_pause(target: Path) -> None:
    """Write the pause image: one layer with one program."""

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
        "mediaType": _MANIFEST,
        "config": {"mediaType": _CONFIG, **put(json.dumps(config).encode())},
        "layers": [{"mediaType": _LAYER, **rootfs}],
    }
    (target / "manifest.json").write_text(json.dumps(manifest))


def _architecture() -> str:
    """Return this machine's architecture in the words of the image-spec."""
    machine = run(["uname", "-m"]).stdout.strip()
    return {"x86_64": "amd64", "aarch64": "arm64"}.get(machine, machine)
