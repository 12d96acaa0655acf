"""Which worker takes which files, and in which order."""

from pathlib import Path

import pytest
from xdist.scheduler import LoadScopeScheduling

SHARES = (
    ("test_node_death.py", "test_devcluster_nodes.py"),
    (
        "test_hang.py",
        "test_bad_input.py",
        "test_restore.py",
        "test_causes.py",
        "test_disruptions.py",
    ),
    (
        "test_demo.py",
        "test_devcluster_lifecycle.py",
        "test_devcluster_cli.py",
        "test_devcluster_images.py",
        "test_examples.py",
        "test_images.py",
        "test_readme.py",
    ),
)
"""What each worker takes, in this order: shares that last about as long as each other.

What a cluster costs at rest slows all down. So the last share begins with tests that make their own
clusters, if they need any, and only near its end is there a third one that stays."""


class Scheduler(LoadScopeScheduling):  # type: ignore[misc]
    """Gives each worker a share."""

    def _split_scope(self, nodeid: str) -> str:
        name = Path(nodeid.partition("::")[0]).name
        return next((share[0] for share in SHARES if name in share), name)


def sort(items: list[pytest.Item]) -> None:
    """Put tests in the order of the shares.

    Raises:
        pytest.UsageError: a file of the layer is in no share, or one that is not there is.
    """
    folder = Path(__file__).parent
    order = [folder / name for share in SHARES for name in share]
    if wrong := set(order) ^ set(folder.glob("test_*.py")):
        names = ", ".join(path.name for path in wrong)
        raise pytest.UsageError(f"tests/e2e/shares.py must name each file of the layer: {names}")
    place = {path: number for number, path in enumerate(order)}
    items.sort(key=lambda item: place.get(item.path, len(place)))
