"""What a containerd that does not start has to say is told, and not waited for."""

from pathlib import Path

import pytest
from rtj_devcluster import containerd
from rtj_devcluster.errors import CommandFailedError

pytestmark = pytest.mark.unit

PROGRAMS = {
    "containerd": 'echo "the path of the socket is too long" >&2; exit 1',
    "ctr": "exit 1",
    "unshare": 'shift; exec "$@"',
}


def test_a_containerd_that_ends_is_told_at_once_with_its_log(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, script in PROGRAMS.items():
        (tmp_path / name).write_text(f"#!/bin/sh\n{script}\n")
        (tmp_path / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    with (
        pytest.raises(CommandFailedError, match=r"(?s)ended while.*the socket is too long"),
        containerd.running(tmp_path / "root", tmp_path),
    ):
        pass
