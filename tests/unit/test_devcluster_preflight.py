"""What a machine lacks for a dev cluster is named, with what mends it, before anything is done."""

from collections.abc import Callable
from pathlib import Path

import pytest
from rtj_devcluster import build, cgroups, preflight
from rtj_devcluster.cluster import Cluster
from rtj_devcluster.errors import DevClusterError, MissingRequirementError
from rtj_devcluster.paths import STATE_VARIABLE

pytestmark = pytest.mark.unit

CONTROLLERS = ("cpu", "cpuset", "memory", "pids")
CONTROLLERS_V1 = (*CONTROLLERS, "cpuacct", "devices", "freezer")
UNSHARE = """#!/bin/sh
case "$*" in
  *"$LACKS"*) echo "the kernel says no" >&2; exit 1 ;;
esac
"""
"""A kernel that does all that is asked, but for one thing."""


@pytest.fixture
def hierarchies(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where cgroups are mounted, here: v2 with all controllers."""
    root = tmp_path / "cgroup"
    root.mkdir()
    (root / "cgroup.controllers").write_text(" ".join((*CONTROLLERS, "io")))
    monkeypatch.setattr(cgroups, "ROOT", root)
    return root


@pytest.fixture
def lacks(
    hierarchies: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[[str], None]:
    """A machine on which nothing is missing, until a test says what."""
    program = tmp_path / "bin" / "unshare"
    program.parent.mkdir()
    program.write_text(UNSHARE)
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{program.parent}:/usr/bin:/bin")
    monkeypatch.setenv("LACKS", "nothing of that kind")
    monkeypatch.setenv(STATE_VARIABLE, str(tmp_path / "state"))
    monkeypatch.setattr("os.geteuid", lambda: 0)
    return lambda what: monkeypatch.setenv("LACKS", what)


@pytest.mark.usefixtures("lacks")
def test_a_machine_that_has_all_is_told_nothing_and_keeps_nothing(tmp_path: Path) -> None:
    before = sorted(tmp_path.rglob("*"))
    preflight.check_rights()
    preflight.check_network()
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.parametrize("missing", CONTROLLERS)
@pytest.mark.usefixtures("lacks")
def test_a_controller_that_is_missing_in_cgroup_v2_is_named(
    hierarchies: Path, missing: str
) -> None:
    there = [name for name in CONTROLLERS if name != missing]
    (hierarchies / "cgroup.controllers").write_text(" ".join(there))
    with pytest.raises(MissingRequirementError, match=f"not usable: {missing}\\. Mount"):
        preflight.check_rights()


@pytest.mark.parametrize("missing", CONTROLLERS_V1)
@pytest.mark.usefixtures("lacks")
def test_a_controller_that_is_not_mounted_in_cgroup_v1_is_named(
    hierarchies: Path, missing: str
) -> None:
    (hierarchies / "cgroup.controllers").unlink()
    for name in CONTROLLERS_V1:
        (hierarchies / name).mkdir()
        (hierarchies / name / "cgroup.procs").touch()
    preflight.check_rights()

    (hierarchies / missing / "cgroup.procs").unlink()
    with pytest.raises(MissingRequirementError, match=f"not usable: {missing}\\. Mount"):
        preflight.check_rights()


@pytest.mark.parametrize(
    ("missing", "told"),
    [("--pid", "CAP_SYS_ADMIN"), ("overlay", "a local disk"), ("--uts --ipc", "namespaces")],
)
def test_a_right_that_is_missing_is_named_with_the_kernels_words(
    lacks: Callable[[str], None], missing: str, told: str
) -> None:
    lacks(missing)
    with pytest.raises(MissingRequirementError, match=f"(?s){told}.*the kernel says no"):
        preflight.check_rights()


@pytest.mark.parametrize("missing", ["type bridge", "type veth", "MASQUERADE"])
def test_a_network_that_cannot_be_made_is_told_with_the_modules_that_it_needs(
    lacks: Callable[[str], None], missing: str
) -> None:
    lacks(missing)
    preflight.check_rights()
    with pytest.raises(MissingRequirementError, match=r"(?s)bridge, veth.*the kernel says no"):
        preflight.check_network()


@pytest.mark.parametrize("hidden", ["/run", "/var/run", "/var/log", "/var/lib/kubelet"])
@pytest.mark.usefixtures("lacks")
def test_a_state_folder_that_no_node_would_see_is_refused(
    monkeypatch: pytest.MonkeyPatch, hidden: str
) -> None:
    monkeypatch.setenv(STATE_VARIABLE, f"{hidden}/clusters")
    with pytest.raises(MissingRequirementError, match=f"under {hidden}.*set {STATE_VARIABLE}"):
        preflight.check_rights()


@pytest.mark.parametrize(
    "action",
    [
        lambda: Cluster("mine").up(),
        lambda: build.build("x", Path("Dockerfile"), Path()),
    ],
    ids=["up", "build"],
)
@pytest.mark.usefixtures("lacks")
def test_without_root_neither_a_cluster_nor_an_image_is_begun(
    action: Callable[[], None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("os.geteuid", lambda: 1000)
    with pytest.raises(MissingRequirementError, match="needs root"):
        action()
    assert not (tmp_path / "state").exists()


@pytest.mark.parametrize("present", [CONTROLLERS, (*CONTROLLERS, "hugetlb")])
def test_a_cgroup_in_v2_has_every_controller_that_the_kubelet_looks_for(
    hierarchies: Path, present: tuple[str, ...]
) -> None:
    (hierarchies / "cgroup.controllers").write_text(" ".join(("io", *present, "rdma")))
    cgroups.create("/rtj-mine/node-1")
    for folder in ("", "rtj-mine", "rtj-mine/node-1"):
        enabled = (hierarchies / folder / "cgroup.subtree_control").read_text().split()
        assert enabled == [f"+{name}" for name in present]


def test_a_cgroup_that_does_not_go_is_named(
    hierarchies: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cgroups, "_REMOVE_TIMEOUT_SECONDS", 0.2)
    busy = hierarchies / "rtj-mine" / "node-1"
    (busy / "a process").mkdir(parents=True)
    cgroups.remove("/rtj-mine/node-1")
    assert not busy.exists()

    busy.mkdir()
    (busy / "a process").touch()  # A folder that rmdir leaves, as a cgroup with a process in it.
    with pytest.raises(DevClusterError, match=f"(?s)/rtj-mine/node-1 goes.*{busy}"):
        cgroups.remove("/rtj-mine/node-1")
