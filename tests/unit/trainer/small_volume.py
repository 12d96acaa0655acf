"""A volume with a real limit: a file system in memory that can be filled to the last page."""

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

PAGE = 4096


@contextmanager
def mounted(folder: Path, megabytes: int) -> Iterator[Path]:
    """Mount an empty tmpfs of that size on a new folder."""
    if os.geteuid() != 0:
        pytest.skip("mounting takes root")
    folder.mkdir(exist_ok=True)
    options = f"size={megabytes}m"
    subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(folder)], check=True)
    try:
        yield folder
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


def fill(folder: Path, room_pages: int = 0) -> None:
    """Fill the file system of a folder, but for some pages."""
    with (folder / "filler").open("wb", buffering=0) as filler:
        try:
            while True:
                filler.write(bytes(PAGE))
        except OSError:
            pages = filler.tell() // PAGE
        filler.truncate(max(pages - room_pages, 0) * PAGE)


def empty(folder: Path) -> None:
    """Undo `fill`."""
    (folder / "filler").unlink()
