"""The demo's cluster by default: the dev cluster of this repository, which needs no Docker."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from rtj_devcluster import build, image_store, kubebox
from rtj_devcluster.cluster import Cluster
from rtj_devcluster.errors import DevClusterError
from rtj_devcluster.progress import stage

from rtj_demo import install
from rtj_demo.clusters import Images, UnusableClusterError
from rtj_demo.jobs import Job
from rtj_demo.kube import Kube

NAME = "demo"
ROOT = Path(__file__).parents[2]
OPERATOR = "docker.io/library/rtj-operator:dev"
TRAINER = "docker.io/library/rtj-trainer:dev"


def build_images() -> Images:
    """Build both images for all dev clusters of this machine; what did not change is cached."""
    for part, image in (("operator", OPERATOR), ("trainer", TRAINER)):
        build.build(image, ROOT / part / "Dockerfile", ROOT)
    return Images(OPERATOR, TRAINER, image_store.images()[OPERATOR].manifest)


def kube_of(cluster: Cluster) -> Kube:
    """Return kubectl and helm for a dev cluster."""
    return Kube(
        [str(kubebox.binary("kubectl"))],
        [str(kubebox.binary("helm"))],
        str(cluster.kubeconfig),
        cluster.folder / "kubectl-cache",
    )


@contextmanager
def _known_to_the_demo() -> Iterator[None]:
    try:
        yield
    except DevClusterError as error:
        raise UnusableClusterError(str(error)) from error


class DevCluster:
    """Two nodes on this machine, each with its own kubelet and containerd."""

    victim = "node"
    release = install.EVERYWHERE
    way_down = "`make clean` takes it down"

    def __init__(self, name: str = NAME) -> None:
        self.name = name
        self._cluster = Cluster(name)
        self._struck: set[str] = set()

    @property
    def kube(self) -> Kube:
        """The commands for this cluster."""
        return kube_of(self._cluster)

    @_known_to_the_demo()
    def up(self) -> None:
        """Start it, or bring back what of it is not running; its parts say what they do."""
        self._cluster.up()

    @_known_to_the_demo()
    def provide_images(self) -> Images:
        """Build both images and give them to the nodes."""
        images = build_images()
        with stage("Give the images to the nodes"):
            self._cluster.sync_images()
        return images

    @_known_to_the_demo()
    def strike(self, job: Job) -> str:
        """Cut the power of the job's node; return what was done, for a person."""
        node = job.node_name()
        self._struck.add(node)
        self._cluster.kill_node(node)
        return f"node {node} was killed: SIGKILL of its kubelet, its containerd and all its pods"

    @_known_to_the_demo()
    def mend(self) -> None:
        """Switch the killed nodes on again."""
        for node in sorted(self._struck):
            self._cluster.add_node(node)
        self._struck.clear()

    @_known_to_the_demo()
    def down(self) -> None:
        """Take it down and leave nothing behind."""
        self._cluster.down()
