"""Addresses, slots, states and names: what the dev cluster works out before it acts."""

import json
import os
from dataclasses import replace
from ipaddress import IPv4Address, IPv4Network
from itertools import combinations
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from kubernetes.client.rest import ApiException
from rtj_devcluster import build, cgroups, slots
from rtj_devcluster.addresses import MAX_NODES, SLOTS, Addresses
from rtj_devcluster.agent import Agent, volume_for
from rtj_devcluster.cluster import Cluster
from rtj_devcluster.cluster_state import ClusterOptions, ClusterState
from rtj_devcluster.errors import DevClusterError
from rtj_devcluster.manifests import PROVISIONER
from rtj_devcluster.paths import STATE_VARIABLE, cluster_folder, write_atomically
from rtj_devcluster.pki import Pki
from rtj_devcluster.processes import me

pytestmark = pytest.mark.unit


@pytest.fixture(autouse=True)
def own_state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(STATE_VARIABLE, str(tmp_path))


def networks(addresses: Addresses) -> list[IPv4Network]:
    return [addresses.node_network, addresses.services, addresses.pods]


def test_no_two_networks_of_any_clusters_overlap() -> None:
    every = [network for slot in SLOTS for network in networks(Addresses(slot))]
    assert not [pair for pair in combinations(every, 2) if pair[0].overlaps(pair[1])]


def test_every_node_has_room_in_its_networks_and_a_name_that_a_link_may_have() -> None:
    addresses = Addresses(max(SLOTS))
    for index in range(1, MAX_NODES + 1):
        assert IPv4Address(addresses.node(index)) in addresses.node_network
        assert addresses.pods_of_node(index).subnet_of(addresses.pods)
        assert len(addresses.link(index)) <= 15
    pods = [addresses.pods_of_node(index) for index in range(1, MAX_NODES + 1)]
    assert len(set(pods)) == MAX_NODES


def test_a_cluster_keeps_its_slot_and_another_gets_another() -> None:
    first, second = slots.take("first"), slots.take("second")
    assert first.number != second.number
    assert slots.take("first") == first

    slots.give_back("first")

    assert slots.of_cluster("first") is None
    assert slots.of_cluster("second") == second


def test_a_slot_whose_owner_is_gone_is_abandoned() -> None:
    mine = slots.take("mine", owned=True)
    assert mine.owner == me()
    assert not mine.abandoned
    assert replace(mine, owner=replace(me(), started=0)).abandoned
    assert not slots.take("for-ever").abandoned


def test_a_route_that_is_in_the_way_of_every_node_is_named(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    everywhere, vpn = IPv4Network("0.0.0.0/0"), IPv4Network("10.0.0.0/8")
    monkeypatch.setattr(slots, "_routes", lambda: iter([everywhere, vpn]))
    with pytest.raises(DevClusterError, match=r"0 of 32 have.*the route to 10\.0\.0\.0/8$"):
        slots.take("with-nodes")
    assert slots.of_cluster("with-nodes") is None
    slots.take("without-nodes", owned=True)


def test_a_file_is_on_disk_before_it_has_its_name_and_its_name_before_it_is_counted_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, synced = tmp_path / "folder" / "file", []

    def note(handle: int) -> None:
        synced.append((Path(f"/proc/self/fd/{handle}").readlink().parent, path.exists()))

    monkeypatch.setattr(os, "fsync", note)
    write_atomically(path, "text")
    assert synced == [(path.parent, False), (tmp_path, True)]


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"cluster": "mine", "owner": {"pid": 1}}'])
def test_a_slot_whose_file_is_broken_stays_taken_and_is_named(tmp_path: Path, text: str) -> None:
    slots.take("theirs")
    first = slots.take("mine")
    broken = tmp_path / ".slots" / str(first.number)
    broken.write_text(text)

    assert [slot.cluster for slot in slots.taken()] == ["theirs"]
    assert slots.take("another").number not in (first.number, slots.take("theirs").number)
    with pytest.raises(DevClusterError, match=f"{broken}: broken.*Remove it"):
        slots.check()
    (tmp_path / "mine").mkdir()  # Its certificates are for the addresses of the slot that it had.
    with pytest.raises(DevClusterError, match=f"{broken}: broken.*Remove it"):
        slots.take("mine")

    broken.unlink()
    slots.check()


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"options": []}', '{"options": {}}'])
def test_a_state_whose_file_is_broken_is_named(tmp_path: Path, text: str) -> None:
    path = tmp_path / "cluster.json"
    path.write_text(text)
    with pytest.raises(DevClusterError, match=f"{path}: broken.*Remove it"):
        ClusterState.load(path)


def test_a_cluster_that_a_run_uses_is_refused_to_another_until_it_has_ended() -> None:
    with slots.in_use("shared"):
        with (
            pytest.raises(DevClusterError, match=r"'shared': wait until it has ended, or not$"),
            slots.in_use("shared", ", or not"),
        ):
            pytest.fail("two use it")
        with slots.in_use("another"), slots.locked("shared"):
            pass  # The run itself goes on with it.
    with slots.in_use("shared"):
        pass


@pytest.mark.parametrize("name", ["", "Big", "a_b", "-a", "a-", "../x", "a" * 33, ".images"])
def test_a_cluster_name_that_cannot_be_part_of_a_path_is_refused(name: str) -> None:
    with pytest.raises(DevClusterError, match="lower-case"):
        cluster_folder(name)


def test_a_state_survives_its_file(tmp_path: Path) -> None:
    state = ClusterState(ClusterOptions(gpus_per_node=2), {"node-1": 1}, "/rtj")
    state.save(tmp_path / "state.json")
    assert ClusterState.load(tmp_path / "state.json") == state
    assert ClusterState.load(tmp_path / "none.json") is None


def test_asking_for_more_nodes_adds_the_missing_ones_with_the_lowest_numbers() -> None:
    state = ClusterState(ClusterOptions(nodes=1), {"node-3": 3}, "/rtj")
    grown = state.asked_for(ClusterOptions(nodes=3))
    assert grown.nodes == {"node-1": 1, "node-2": 2, "node-3": 3}
    assert grown.asked_for(ClusterOptions(nodes=3)) == grown


def test_a_deleted_node_does_not_come_back_unasked() -> None:
    cluster = Cluster("mine")
    made = ClusterState(ClusterOptions(nodes=2), {"node-1": 1, "node-2": 2}, "/rtj")
    for left in (made.without_node("node-2"), made.without_node("node-1").without_node("node-2")):
        left.save(cluster.folder / "cluster.json")
        assert left.asked_for(cluster.options) == left


def test_asking_for_fewer_nodes_is_refused_with_the_way_to_have_them() -> None:
    state = ClusterState(ClusterOptions(), {"node-1": 1, "node-3": 3}, "/rtj")
    with pytest.raises(DevClusterError) as told:
        state.asked_for(ClusterOptions(nodes=1))
    assert str(told.value) == (
        "nodes: 1: the cluster has 2, node-1, node-3: take one away with delete-node"
    )


def test_options_of_a_cluster_cannot_change_under_it() -> None:
    state = ClusterState(ClusterOptions(audit=True), {}, "/rtj")
    with pytest.raises(DevClusterError) as told:
        state.asked_for(ClusterOptions(gpus_per_node=1))
    assert str(told.value) == (
        "the cluster was made with gpus-per-node 0, audit on and node Leases of 40 s, not with "
        "gpus-per-node 1, audit off and node Leases of 40 s: take it down to change that"
    )


@pytest.mark.parametrize(
    ("options", "seconds"),
    [(ClusterOptions(), 40), (ClusterOptions(node_lease_seconds=20), 20)],
)
def test_a_nodes_lease_is_upstreams_unless_another_is_asked_for(
    options: ClusterOptions, seconds: int
) -> None:
    slots.take("mine")
    cluster = Cluster("mine")
    ClusterState(options, {"node-1": 1}, "/rtj").save(cluster.folder / "cluster.json")
    config: Any = cluster._node("node-1").files._kubelet()
    assert config["nodeLeaseDurationSeconds"] == seconds


def test_a_cluster_that_another_version_made_is_still_known(tmp_path: Path) -> None:
    made = {"options": {"nodes": 3, "colour": "green"}, "nodes": {"node-1": 1}}
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "state.json").write_text(json.dumps(made))
    state = ClusterState.load(tmp_path / "mine" / "state.json")
    assert state == ClusterState(ClusterOptions(nodes=3), {"node-1": 1}, "/rtj-mine")


def test_clusters_of_one_name_in_two_state_folders_have_cgroups_of_their_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    here = cgroups.path_of(cluster_folder("mine"))
    (tmp_path / "link").symlink_to(tmp_path)
    monkeypatch.setenv(STATE_VARIABLE, str(tmp_path / "link"))
    assert cgroups.path_of(cluster_folder("mine")) == here
    monkeypatch.setenv(STATE_VARIABLE, str(tmp_path / "elsewhere"))
    assert cgroups.path_of(cluster_folder("mine")) != here


@pytest.mark.parametrize("nodes", [0, -1, MAX_NODES + 1])
def test_a_number_of_nodes_that_has_no_addresses_is_refused(nodes: int) -> None:
    with pytest.raises(DevClusterError, match="use 1 to"):
        ClusterState(ClusterOptions(), {}, "/rtj").asked_for(ClusterOptions(nodes=nodes))


def test_a_new_node_takes_the_lowest_free_number() -> None:
    state = ClusterState(ClusterOptions(), {"node-1": 1, "node-3": 3}, "/rtj")
    grown, name = state.with_node(None)
    assert name == "node-2"
    assert grown.without_node("node-2") == state
    assert state.with_node("node-3") == (state, "node-3")


@pytest.mark.parametrize("name", ["node-0", "node-01", "node-99", "worker", ""])
def test_a_node_name_without_an_address_is_refused(name: str) -> None:
    with pytest.raises(DevClusterError, match="use node-1 to"):
        ClusterState(ClusterOptions(), {}, "/rtj").with_node(name)


@pytest.mark.parametrize(
    ("short", "full"),
    [
        ("x", "docker.io/library/x:latest"),
        ("x:dev", "docker.io/library/x:dev"),
        ("me/x:dev", "docker.io/me/x:dev"),
        ("localhost/x", "localhost/x:latest"),
        ("example.org:5000/x", "example.org:5000/x:latest"),
        ("example.org:5000/x:1", "example.org:5000/x:1"),
        ("localhost:5000/me/x:dev", "localhost:5000/me/x:dev"),
        ("docker.io/library/x:dev", "docker.io/library/x:dev"),
    ],
)
def test_a_short_image_name_is_filled_in_as_runtimes_do(short: str, full: str) -> None:
    assert build.full_name(short) == full


def test_an_image_that_is_named_by_its_digest_is_refused() -> None:
    with pytest.raises(DevClusterError, match="image x@sha256:abc: name it by a tag"):
        build.full_name("x@sha256:abc")


@pytest.mark.parametrize(
    ("line", "share"),
    [
        ("STEP 1/4: FROM localhost/rtj-base:bookworm", 0.0),
        ("STEP 4/4: COPY . /", 0.75),
        ("[1/2] STEP 2/2: RUN make", 0.25),
        ("[2/2] STEP 2/2: RUN make", 0.75),
        ("--> Using cache 5d2ba5ce8373", None),
        ("Collecting numpy; STEP 1/2: is in the middle", None),
    ],
)
def test_a_build_tells_how_far_it_is_when_a_step_begins(line: str, share: float | None) -> None:
    assert build.share_done(line) == share


def test_certificates_are_made_once_and_keys_are_the_owners_alone(tmp_path: Path) -> None:
    pki = Pki(tmp_path / "pki")
    pki.issue("server", "server", hosts=["localhost", "127.0.0.1"])
    before = pki.certificate("server").read_bytes(), pki.ca.read_bytes()

    again = Pki(tmp_path / "pki")
    again.issue("server", "server")

    assert (again.certificate("server").read_bytes(), again.ca.read_bytes()) == before
    assert os.stat(pki.key("server")).st_mode & 0o077 == 0  # noqa: PTH116 - shortest


def claim(uid: str, *, phase: str = "Pending", storage_class: str = "shared") -> Any:
    return SimpleNamespace(
        metadata=SimpleNamespace(name="data", namespace="default", uid=uid),
        spec=SimpleNamespace(
            storage_class_name=storage_class,
            access_modes=["ReadWriteMany"],
            resources=SimpleNamespace(requests={"storage": "1Gi"}),
            volume_name=None,
        ),
        status=SimpleNamespace(phase=phase),
    )


class Claims:
    """An API server that has claims and takes volumes, each name once."""

    def __init__(self, *claims: Any) -> None:
        self._claims = claims
        self.volumes: dict[str, Any] = {}

    def list_persistent_volume_claim_for_all_namespaces(self) -> Any:
        return SimpleNamespace(items=list(self._claims))

    def create_persistent_volume(self, volume: dict[str, Any]) -> None:
        if volume["metadata"]["name"] in self.volumes:
            raise ApiException(status=409)
        self.volumes[volume["metadata"]["name"]] = volume


def test_only_pending_claims_of_the_shared_class_get_a_volume(tmp_path: Path) -> None:
    api = Claims(claim("1"), claim("2", phase="Bound"), claim("3", storage_class="other"))
    agent = Agent(api, tmp_path)

    agent.provision()
    agent.provision()  # The claim may still be pending in the next turn.

    assert list(api.volumes) == ["pvc-1"]
    folder = Path(api.volumes["pvc-1"]["spec"]["hostPath"]["path"])
    assert folder.stat().st_mode & 0o777 == 0o777


class Volumes:
    """An API server that has volumes, by name."""

    def __init__(self, *volumes: Any) -> None:
        self.left = {volume.metadata.name: volume for volume in volumes}

    def list_persistent_volume(self) -> Any:
        return SimpleNamespace(items=list(self.left.values()))

    def delete_persistent_volume(self, name: str) -> None:
        del self.left[name]


def volume(folder: Path, *, phase: str = "Released", policy: str = "Delete", made_by: str) -> Any:
    folder.mkdir()
    return SimpleNamespace(
        metadata=SimpleNamespace(
            name=folder.name, annotations={"pv.kubernetes.io/provisioned-by": made_by}
        ),
        spec=SimpleNamespace(
            persistent_volume_reclaim_policy=policy, host_path=SimpleNamespace(path=str(folder))
        ),
        status=SimpleNamespace(phase=phase),
    )


def test_a_released_volume_is_deleted_unless_it_is_retained(tmp_path: Path) -> None:
    api = Volumes(
        volume(tmp_path / "released", made_by=PROVISIONER),
        volume(tmp_path / "bound", phase="Bound", made_by=PROVISIONER),
        volume(tmp_path / "retained", policy="Retain", made_by=PROVISIONER),
        volume(tmp_path / "another's", made_by="somebody else"),
    )

    Agent(api, tmp_path).reclaim()

    left = {"bound", "retained", "another's"}
    assert set(api.left) == left
    assert {folder.name for folder in tmp_path.iterdir()} == left


def test_a_turn_of_the_agent_has_gone_well_when_none_of_its_tasks_failed(tmp_path: Path) -> None:
    def nothing() -> Any:
        return SimpleNamespace(items=[])

    def refused() -> Any:
        raise ApiException(status=403)

    api = SimpleNamespace(
        list_persistent_volume_claim_for_all_namespaces=nothing,
        list_persistent_volume=nothing,
        list_node=nothing,
    )
    assert Agent(api, tmp_path).turn()
    api.list_persistent_volume = refused
    assert not Agent(api, tmp_path).turn()


def test_a_volume_belongs_to_the_one_claim_that_it_was_made_for(tmp_path: Path) -> None:
    volume = volume_for(claim("1"), tmp_path)
    assert volume["spec"]["claimRef"]["uid"] == "1"
    assert volume["spec"]["accessModes"] == ["ReadWriteMany"]
