"""Comparing rights with uses after the end-to-end layer: it never passes for want of facts."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import yaml

from tests.e2e import rights
from tests.unit.test_audit import LOG as EVERYBODYS_LOG
from tests.unit.test_audit import OBJECTS, OPERATOR

pytestmark = pytest.mark.unit

LOG = [line for line in EVERYBODYS_LOG if f'"username": "{OPERATOR}"' in line]


class Run:
    """A run of the whole layer, whose workers end one after the other."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self._folder, self._patch = folder, monkeypatch

    def ends(
        self, worker: str, log: list[str] | None, workers: int = 2, has_operator: bool = True
    ) -> None:
        """Let a worker end; with an operator, but without a log, a test of it failed."""
        self._patch.setenv("PYTEST_XDIST_WORKER", worker)
        self._patch.setenv("PYTEST_XDIST_WORKER_COUNT", str(workers))
        self._patch.setattr(rights, "log_lines", lambda _: iter(log or []))
        cluster: Any = SimpleNamespace(name=f"e2e-{worker}")
        if has_operator:
            rights.expect(cluster, self._folder)
        if log is not None:
            kube: Any = SimpleNamespace(run_helm=lambda *_: yaml.safe_dump_all(OBJECTS))
            rights.compare(cluster, kube, self._folder)
        rights.compare_unused(self._folder)


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    monkeypatch.delenv(rights.KEPT_CLUSTER, raising=False)
    unused = {("delete", "pods"): "never", ("get", "leases"): "never"}
    monkeypatch.setattr(rights, "UNUSED_WITH_REASON", unused)
    return Run(tmp_path, monkeypatch)


def test_workers_that_used_all_but_what_need_not_be_used_are_content(run: Run) -> None:
    for worker in ("gw0", "gw1"):
        run.ends(worker, LOG)


def test_a_worker_whose_tests_need_no_operator_owes_no_list(run: Run) -> None:
    run.ends("gw0", LOG)
    run.ends("gw1", None, has_operator=False)


def test_a_right_that_one_worker_used_is_in_use(run: Run) -> None:
    run.ends("gw0", LOG[1:])
    run.ends("gw1", LOG)


def test_the_last_worker_finds_the_right_that_none_has_used(run: Run) -> None:
    run.ends("gw0", LOG[1:])
    with pytest.raises(AssertionError, match="'list', 'pods'"):
        run.ends("gw1", LOG[1:])


@pytest.mark.parametrize("logs", [(None, LOG), (LOG, None)])
def test_a_worker_that_leaves_no_list_fails_the_last(
    run: Run, logs: tuple[list[str] | None, ...]
) -> None:
    run.ends("gw0", logs[0])
    with pytest.raises(AssertionError, match="of 2 clusters, 1 told"):
        run.ends("gw1", logs[1])


def test_one_worker_alone_is_the_last(run: Run) -> None:
    with pytest.raises(AssertionError, match="no test used the fixture `operator`"):
        run.ends("gw0", None, workers=1, has_operator=False)


def test_an_audit_log_that_tells_nothing_fails(run: Run) -> None:
    with pytest.raises(AssertionError, match="the audit log of cluster e2e-gw0"):
        run.ends("gw0", [])


def test_a_kept_cluster_need_not_have_one(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(rights.KEPT_CLUSTER, "mine")
    run.ends("gw0", [], workers=1)
