"""Builds images from ordinary Dockerfiles, without a Docker engine and without a registry.

buildah builds them, with its storage in the cache: layers that did not change are
taken from there. The base image that a Dockerfile asks for with ``ARG BASE_IMAGE``
is a Debian made by debootstrap, once, since there is no registry to get one from.

What a build needs of this machine to reach a package index (the certificates it
trusts, pip's settings) is mounted while it builds and is in no layer.
"""

import os
import re
import shutil
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

from rtj_devcluster import image_store, packages, preflight
from rtj_devcluster.errors import DevClusterError
from rtj_devcluster.paths import cache_root
from rtj_devcluster.progress import Advance, console, stage
from rtj_devcluster.shell import follow, run
from rtj_devcluster.slots import locked

BASE_IMAGE = "localhost/rtj-base:bookworm"
_BASE_PACKAGES = "ca-certificates,python3,python3-venv"
_CERTIFICATES = Path("/etc/ssl/certs/ca-certificates.crt")
_STEP = re.compile(r"(?:\[(\d+)/(\d+)\] )?STEP (\d+)/(\d+):")
"""What buildah prints when a step begins: of which stage, if there are several, and of how many."""
_PIP_SETTINGS = ("index-url", "extra-index-url", "trusted-host", "proxy", "timeout", "retries")


def name_and_tag(image: str) -> tuple[str, str]:
    """Return an image's name and its tag, which is `latest` where none is given.

    Raises:
        DevClusterError: the image is named by its digest.
    """
    if "@" in image:
        raise DevClusterError(f"image {image}: name it by a tag, not by its digest")
    name, colon, tag = image.rpartition(":")
    if not colon or "/" in tag:  # What follows the colon is the port of a registry.
        return image, "latest"
    return name, tag or "latest"


def full_name(image: str) -> str:
    """Return an image's name with registry and tag, as a container runtime normalises it.

    Raises:
        DevClusterError: the image is named by its digest.
    """
    name, tag = name_and_tag(image)
    first, _, rest = name.partition("/")
    if not rest:
        name = f"docker.io/library/{name}"
    elif "." not in first and ":" not in first and first != "localhost":
        name = f"docker.io/{name}"
    return f"{name}:{tag}"


def _buildah(*arguments: str) -> list[str]:
    storage = cache_root() / "buildah"
    return [
        # buildah leaves a mount on its storage; in a mount namespace it ends with the command.
        *("unshare", "--mount", "buildah", *arguments[:1]),
        *(f"--root={storage / 'root'}", f"--runroot={storage / 'run'}"),
        *("--storage-driver=overlay", *arguments[1:]),
    ]


def build(
    image: str,
    dockerfile: Path,
    context: Path,
    build_arguments: Sequence[str] = (),
    *,
    verbose: bool = False,
) -> None:
    """Build an image and put it into the image store.

    Args:
        image: Its name; short names are of docker.io/library, as everywhere.
        dockerfile: The Dockerfile.
        context: The folder that COPY copies from.
        build_arguments: Further ``NAME=value`` for its ARGs.
        verbose: Whether the build's output is shown as it comes, not only after a failure.

    Raises:
        MissingRequirementError: this machine lacks something; nothing was changed.
        CommandFailedError: the build failed; the message ends with its output.
    """
    preflight.check_rights()
    packages.ensure(packages.NODES | packages.IMAGES)
    name = full_name(image)
    with locked(".build") as lock:
        _ensure_base(lock)
        with (
            stage(f"Build {image}", total=1.0) as advance,
            tempfile.TemporaryDirectory(dir=cache_root()) as folder,
        ):
            pip = _pip_settings(Path(folder) / "pip.conf")
            command = _buildah(
                *("build", "--isolation=chroot", "--layers", "--format=oci", "--pull=never"),
                *(f"--tag={name}", f"--file={dockerfile}", f"--volume={pip}:/etc/pip.conf:ro"),
                *(f"--build-arg={each}" for each in (f"BASE_IMAGE={BASE_IMAGE}", *build_arguments)),
                *_certificates(),
                str(context),
            )
            _run_build(command, folder, lambda line: _show(line, verbose, advance), lock)
    load(image)


def load(image: str) -> None:
    """Put an image that ``build`` made into the image store, for all clusters.

    Raises:
        DevClusterError: there is no such image.
    """
    packages.ensure(packages.NODES | packages.IMAGES)
    name = full_name(image)
    identity = _identity(name)
    if identity is None:
        raise DevClusterError(f"there is no image {name}: build it with devcluster build")
    with stage(f"Unpack {image} for the nodes"):
        image_store.add(name, identity, lambda folder: _write(name, folder))


def _identity(name: str) -> str | None:
    """Return what changes when an image does; None where there is no such image."""
    template = "--format={{.FromImageID}}"
    found = run(_buildah("inspect", "--type=image", template, name), check=False)
    return found.stdout.strip() if found.returncode == 0 else None


def _write(name: str, folder: Path) -> None:
    # Layers stay as they are: they never travel, and packing them costs a minute. Of the
    # transports only dir: leaves them so; its blobs are named by their digests.
    run(_buildah("push", "--quiet", "--disable-compression", name, f"dir:{folder}"))


def _certificates() -> list[str]:
    return [f"--volume={_CERTIFICATES}:{_CERTIFICATES}:ro"] if _CERTIFICATES.exists() else []


def _pip_settings(target: Path) -> Path:
    """Write this machine's pip settings, from its files and its environment, as one file."""
    listed = run([sys.executable, "-m", "pip", "config", "list"], check=False).stdout
    lines = ["[global]"]
    if _CERTIFICATES.exists():
        lines.append(f"cert = {_CERTIFICATES}")
    for line in listed.splitlines():
        key, _, value = line.partition("=")
        setting = key.rpartition(".")[2]
        if setting in _PIP_SETTINGS:
            lines.append(f"{setting} = {value.strip(chr(39))}")
    target.write_text("\n".join(lines) + "\n")
    target.chmod(0o644)
    return target


def _run_build(
    command: list[str], folder: str, each_line: Callable[[str], None], lock: int
) -> None:
    """Run a build; where it is cut short, only whole layers are left of it."""
    try:
        follow(command, each_line, lock=lock, env={**os.environ, "TMPDIR": folder})
    except BaseException:
        # No other build is under way: whoever builds has the lock.
        run(_buildah("rm", "--all"), check=False)
        raise


def _show(line: str, verbose: bool, advance: Advance) -> None:
    if verbose:
        console.print(line.rstrip(), markup=False)
    done = share_done(line)
    if done is not None:
        advance(done)


def share_done(line: str) -> float | None:
    """Return what share of a build is done when buildah prints this; None where it does not say."""
    step = _STEP.match(line)
    if step is None:
        return None
    stage, stages, begun, steps = (int(group or 1) for group in step.groups())
    return (stage - 1 + (begun - 1) / steps) / stages


def _ensure_base(lock: int) -> None:
    if _identity(BASE_IMAGE) is not None:
        return
    rootfs = cache_root() / "base.unfinished"
    shutil.rmtree(rootfs, ignore_errors=True)
    rootfs.mkdir(parents=True)
    with stage("Make the base image: Debian 12 with Python (a minute, once)"):
        environment = {**os.environ, "DEBOOTSTRAP_DIR": "/usr/share/debootstrap"}
        variant = ["--variant=minbase", f"--include={_BASE_PACKAGES}", "bookworm", str(rootfs)]
        debootstrap = ["unshare", "--mount", "debootstrap", *variant]
        follow(debootstrap, lambda _: None, lock=lock, env=environment)
        for rubbish in ("var/cache/apt", "var/lib/apt/lists", "usr/share/doc", "usr/share/man"):
            shutil.rmtree(rootfs / rubbish, ignore_errors=True)
        dockerfile = 'FROM scratch\nCOPY . /\nCMD ["/bin/sh"]\n'
        with tempfile.NamedTemporaryFile("w") as file:
            file.write(dockerfile)
            file.flush()
            build_base = ("build", "--isolation=chroot", "--format=oci", f"--tag={BASE_IMAGE}")
            run(_buildah(*build_base, f"--file={file.name}", str(rootfs)))
    shutil.rmtree(rootfs, ignore_errors=True)
