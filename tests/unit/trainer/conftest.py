"""The server of attempts, started once, and jobs for it."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.unit.trainer.support import BUILDERS, AttemptServer, Job, MakeJob, create_job


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
