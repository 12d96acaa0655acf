"""Speaking with a containerd: what images it has, giving it more, running one for a moment.

Images come from a folder of blobs, each in a file named by its sha256: the
content-addressed half of an OCI image layout, see the OCI image-spec.
"""

import io
import json
import shutil
import subprocess
import tarfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

from rtj_devcluster.errors import CommandFailedError
from rtj_devcluster.shell import run, tail, wait_until

MANIFEST_TYPE = "application/vnd.oci.image.manifest.v1+json"
_DIES_WITH_CALLER = ("setpriv", "--pdeathsig", "KILL")


def blob(blobs: Path, digest: str) -> Path:
    """Return the file of a blob."""
    return blobs / digest.removeprefix("sha256:")


def blobs_of(blobs: Path, manifest_digest: str) -> list[str]:
    """Return the digests of all blobs of an image, its manifest first."""
    manifest = json.loads(blob(blobs, manifest_digest).read_text())
    layers = [layer["digest"] for layer in manifest["layers"]]
    return [manifest_digest, manifest["config"]["digest"], *layers]


def images_of(socket: Path) -> dict[str, str]:
    """Return the images that a containerd has: full name → digest of the manifest."""
    listed = _ctr(socket, "images", "list").splitlines()[1:]
    return {line.split()[0]: line.split()[2] for line in listed}


def _ctr_command(socket: Path, *arguments: str) -> list[str]:
    return ["ctr", f"--address={socket}", "--namespace=k8s.io", *arguments]


def _ctr(socket: Path, *arguments: str) -> str:
    return run(_ctr_command(socket, *arguments)).stdout


def import_images(socket: Path, wanted: Mapping[str, str], blobs: Path) -> None:
    """Import images, sending only the blobs that this containerd does not have.

    An image gets its name when it is unpacked, and only then what it replaces is thrown away:
    containerd's collector does not see that an import counts on a layer that is there already,
    and takes it where no named image has it.

    Args:
        socket: The containerd.
        wanted: Full name of each image → digest of its manifest.
        blobs: A folder of blobs, as ``blob`` names them.

    Raises:
        CommandFailedError: containerd refuses the images; those of before are as they were.
    """
    unpacked = {f"{name}@{digest}": digest for name, digest in wanted.items()}
    _import(socket, unpacked, blobs)
    for name, digest in wanted.items():
        _ctr(socket, "images", "tag", "--force", f"{name}@{digest}", name)
    _ctr(socket, "images", "remove", "--sync", *unpacked)


def _import(socket: Path, wanted: Mapping[str, str], blobs: Path) -> None:
    present = set(_ctr(socket, "content", "list", "--quiet").split())
    needed = {each for digest in wanted.values() for each in blobs_of(blobs, digest)}
    command = _ctr_command(socket, "images", "import", "-")
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
    ) as importer:
        if importer.stdin is None or importer.stderr is None:
            raise CommandFailedError("ctr was started without pipes")
        with suppress(BrokenPipeError):  # It has ended, and says below why.
            with tarfile.open(fileobj=importer.stdin, mode="w|") as archive:
                _fill(archive, wanted, blobs, sorted(needed - present))
            importer.stdin.close()
        words = importer.stderr.read().decode(errors="replace")
        if importer.wait() != 0:
            raise CommandFailedError(f"images {sorted(wanted)} cannot be imported: {words}")


def _fill(
    archive: tarfile.TarFile, wanted: Mapping[str, str], blobs: Path, missing: list[str]
) -> None:
    def put(name: str, content: bytes) -> None:
        entry = tarfile.TarInfo(name)
        entry.size = len(content)
        archive.addfile(entry, io.BytesIO(content))

    put("oci-layout", b'{"imageLayoutVersion": "1.0.0"}')
    for digest in missing:
        path = blob(blobs, digest)
        archive.add(path, arcname=f"blobs/sha256/{path.name}")
    manifests = [
        {
            "mediaType": MANIFEST_TYPE,
            "digest": digest,
            "size": blob(blobs, digest).stat().st_size,
            "annotations": {"io.containerd.image.name": name},
        }
        for name, digest in wanted.items()
    ]
    put("index.json", json.dumps({"schemaVersion": 2, "manifests": manifests}).encode())


@contextmanager
def running(root: Path, folder: Path) -> Iterator[Path]:
    """Run a containerd without pods on the folder ``root``; yield its socket.

    Its mounts are its own and end with it. ``folder`` takes its socket, state and log.

    Raises:
        DevClusterError: it ended, or does not answer; the message ends with its log.
    """
    socket, state = folder / "containerd.sock", folder / "state"
    root.mkdir(parents=True, exist_ok=True)
    socket.unlink(missing_ok=True)
    config = folder / "containerd.toml"
    config.write_text(
        f'version = 2\nroot = "{root}"\nstate = "{state}"\n'
        f'disabled_plugins = ["io.containerd.grpc.v1.cri"]\n[grpc]\n  address = "{socket}"\n'
        f'[plugins."io.containerd.internal.v1.opt"]\n  path = "{folder / "opt"}"\n'
    )
    words = folder / "containerd.log"
    with words.open("wb") as log:
        containerd = subprocess.Popen(
            [*_DIES_WITH_CALLER, "unshare", "--mount", "containerd", f"--config={config}"],
            stdout=log,
            stderr=log,
        )

    def answers() -> bool:
        if containerd.poll() is not None:
            raise CommandFailedError(f"containerd ended while it started\n{tail(words)}")
        return run(_ctr_command(socket, "version"), check=False).returncode == 0

    try:
        wait_until(answers, what="containerd answers", timeout=30, hint=lambda: tail(words))
        yield socket
    finally:
        containerd.terminate()
        containerd.wait()
        shutil.rmtree(state, ignore_errors=True)
