"""The server of attempts, started once, and jobs for it; servers of a Lease and of Redis."""

import subprocess
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from rtj_devcluster import packages

from tests.unit.trainer.lease_server import LeaseServer
from tests.unit.trainer.support import BUILDERS, AttemptServer, Job, MakeJob, Whole, create_job


@pytest.fixture(scope="session")
def attempt_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[AttemptServer]:
    server = AttemptServer(tmp_path_factory.mktemp("scratch"))
    yield server
    server.close()


@pytest.fixture(scope="session")
def make_job(attempt_server: AttemptServer, tmp_path_factory: pytest.TempPathFactory) -> MakeJob:
    def make(builder: Path | str = BUILDERS, **changes: Any) -> Job:
        return create_job(attempt_server, tmp_path_factory.mktemp("job"), builder, **changes)

    return make


@pytest.fixture(scope="session")
def whole(make_job: MakeJob) -> Whole:
    """Return an uninterrupted job of a function of `builder`; it is not to be changed."""

    @cache
    def run(dataset: str, epochs: int, model: str) -> Job:
        job = make_job(datasetFunction=dataset, epochs=epochs, modelFunction=model)
        job.run_to_end()
        return job

    return lambda dataset, epochs=3, model="build_model": run(dataset, epochs, model)


@pytest.fixture
def server() -> Iterator[LeaseServer]:
    made = LeaseServer("secret")
    yield made
    made.http.shutdown()
    made.hang_up()  # Else what answers on a connection that was kept does so for ever.
    made.http.server_close()


@pytest.fixture
def redis_url(tmp_path: Path) -> Iterator[str]:
    """A real server that keeps nothing on disk."""
    packages.ensure({"redis-server": "redis-server"})
    socket = tmp_path / "redis.sock"
    command = ["redis-server", "--port", "0", "--unixsocket", str(socket), "--save", ""]
    server = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=tmp_path)
    assert server.stdout
    for line in server.stdout:
        if "ready to accept connections" in line.lower():
            break
    yield f"unix://{socket}"
    server.kill()
    server.wait()
