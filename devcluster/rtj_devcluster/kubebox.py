"""Builds the one binary that is the whole Kubernetes, once per version of its source."""

from functools import partial
from pathlib import Path

from rtj_devcluster import golang
from rtj_devcluster.progress import stage

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


def binaries() -> Path:
    """Return the folder that holds every component by its name, and ``pause``.

    The first call on a machine builds them, which takes minutes.

    Raises:
        CommandFailedError: the build failed; the message ends with the compiler's words.
    """
    sources = [(SOURCE / source).read_bytes() for source in _SOURCES]
    return golang.built("kubebox", [*sources, KUBERNETES_VERSION.encode()], "pause", _build)


def binary(name: str) -> Path:
    """Return the path of one component, such as ``kubectl``."""
    return binaries() / name


def _build(folder: Path, lock: int) -> None:
    with stage("Download the sources of Kubernetes"):
        packages = golang.packages_of(SOURCE, "./...")
    version = "k8s.io/component-base/version.git"
    major, minor, _ = KUBERNETES_VERSION.split(".")
    flags = (
        f"-s -w -X {version}Version=v{KUBERNETES_VERSION}"
        f" -X {version}Major={major} -X {version}Minor={minor}"
    )
    with stage("Build Kubernetes as one binary (minutes, once)", total=packages) as advance:
        compile_to = partial(golang.compile_to, flags=flags, lock=lock)
        compile_to(folder / "kubebox", SOURCE, ".", advance=advance)
        compile_to(folder / "pause", SOURCE, "./pause", advance=lambda _: None)
    for name in COMPONENTS:
        (folder / name).symlink_to("kubebox")
