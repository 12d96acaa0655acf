"""Where the demo can run: what it needs of a cluster, whichever it is."""

import shutil
from dataclasses import dataclass
from typing import Protocol

from rtj_demo.jobs import Job
from rtj_demo.kube import Kube


class UnusableClusterError(Exception):
    """The cluster that was asked for cannot be had here; the message says what is needed."""


def require(cluster: str, *tools: str) -> None:
    """Check that this machine has the programs that a demo on this kind of cluster calls.

    Raises:
        UnusableClusterError: one of them is not there.
    """
    for tool in tools:
        if not shutil.which(tool):
            raise UnusableClusterError(
                f"CLUSTER={cluster} needs `{tool}` on the PATH; install it, or leave CLUSTER out "
                "to use the dev cluster, which needs neither Docker nor a cluster"
            )


@dataclass(frozen=True)
class Images:
    """Full names of the two images, as the nodes know them."""

    operator: str
    trainer: str
    operator_digest: str = ""
    """Tells two builds with the same tag apart; empty where tags are not used again."""


@dataclass(frozen=True)
class Release:
    """A Helm release of the operator: where it is, and whose jobs it looks after."""

    name: str
    namespace: str
    jobs_in: str = ""
    """The one namespace whose jobs are its; empty for all. It must be there at the install."""


class DemoCluster(Protocol):
    """A cluster of at least two nodes, whose default StorageClass gives ReadWriteMany volumes."""

    name: str
    """Tells it apart from others of this machine: one demo at a time runs on it."""
    victim: str
    """What `strike` takes from a job, for a person: its node, or only its pod."""
    release: Release
    """How the operator is installed on it."""
    way_down: str
    """How what the demo started here is taken away again, for a person."""

    @property
    def kube(self) -> Kube:
        """The commands for it; only once it is up."""

    def up(self) -> None:
        """Start it, or go on with one that is up; say what takes long."""

    def provide_images(self) -> Images:
        """Make both images known to its nodes."""

    def strike(self, job: Job) -> str:
        """Take the victim away without notice; return what was done, for a person."""

    def mend(self) -> None:
        """Bring back what `strike` took."""

    def down(self) -> None:
        """Take it down and leave nothing behind, or say why not."""
