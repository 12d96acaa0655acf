"""Whoever speaks to a cluster goes to it directly, whatever proxy the rest goes through."""

from ipaddress import IPv4Network
from urllib.request import proxy_bypass_environment

import pytest
from rtj_devcluster import environment
from rtj_devcluster.addresses import SLOTS, Addresses

pytestmark = pytest.mark.unit

PATH = {"PATH": "/usr/local/sbin:/usr/sbin:/sbin:/usr/bin:/bin"}


def completed(**given: str) -> dict[str, str]:
    found = {**PATH, **given}
    environment.complete(found)
    return found


@pytest.mark.parametrize("proxy", ["HTTPS_PROXY", "https_proxy", "HTTP_PROXY", "ALL_PROXY"])
@pytest.mark.parametrize("name", ["NO_PROXY", "no_proxy"])
def test_behind_a_proxy_every_cluster_is_excepted_and_what_was_before_still_is(
    proxy: str, name: str
) -> None:
    given = {proxy: "http://proxy:3128", name: "localhost,intern.example"}
    found = completed(**given)
    assert found["NO_PROXY"] == found["no_proxy"]
    assert found[proxy] == given[proxy]
    for slot in SLOTS:
        addresses = Addresses(slot)
        for host in (addresses.gateway, addresses.loopback, "x.intern.example"):
            assert proxy_bypass_environment(f"{host}:21443", {"no": found["no_proxy"]})
        excepted = [IPv4Network(each) for each in found["NO_PROXY"].split(",") if "/" in each]
        for network in (addresses.node_network, addresses.services, addresses.pods):
            assert any(network.subnet_of(each) for each in excepted)
    assert not proxy_bypass_environment("example.org", {"no": found["no_proxy"]})
    assert completed(**found) == found


@pytest.mark.parametrize(
    "given", [{}, {"NO_PROXY": "localhost"}, {"HTTPS_PROXY": "http://proxy", "NO_PROXY": "*"}]
)
def test_where_nothing_goes_through_a_proxy_nothing_is_changed(given: dict[str, str]) -> None:
    assert completed(**given) == {**PATH, **given}


def test_folders_of_system_programs_are_looked_into_last_and_once() -> None:
    assert (
        completed(PATH="/sbin:/mine:/bin")["PATH"] == "/sbin:/mine:/bin:/usr/local/sbin:/usr/sbin"
    )
