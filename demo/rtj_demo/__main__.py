"""`make demo`: run the story on the cluster that was asked for, and clean up if it is cut short."""

import argparse
import sys
from collections.abc import Callable

from rich.markup import escape
from rtj_devcluster import slots
from rtj_devcluster.ending import unwind_when_asked
from rtj_devcluster.errors import DevClusterError

from rtj_demo.clusters import DemoCluster, UnusableClusterError
from rtj_demo.current import CurrentCluster
from rtj_demo.dev import DevCluster
from rtj_demo.kind import KindCluster, take_down_what_is_left
from rtj_demo.kube import CommandFailedError
from rtj_demo.say import say
from rtj_demo.story import DemoFailedError, tell

CLUSTERS: dict[str, Callable[[], DemoCluster]] = {
    "dev": DevCluster,
    "kind": KindCluster,
    "current": CurrentCluster,
}


def main() -> int:
    """Tell the story; return 0 only if everything that it promises held."""
    parser = argparse.ArgumentParser(prog="make demo", description=__doc__)
    parser.add_argument(
        "--cluster",
        choices=CLUSTERS,
        default="dev",
        help="the dev cluster of this repository, a kind cluster, or the one that KUBECONFIG "
        "names; default: %(default)s",
    )
    parser.add_argument(
        "--clean", action="store_true", help="only take down what a demo on kind left"
    )
    asked = parser.parse_args()
    unwind_when_asked()
    try:
        if asked.clean:
            take_down_what_is_left()
            return 0
        cluster = CLUSTERS[asked.cluster]()
        with slots.in_use(cluster.name):
            return _run(cluster)
    except (UnusableClusterError, DevClusterError, OSError) as error:
        say(f"[red]{escape(str(error))}[/red]")
        return 2


def _run(cluster: DemoCluster) -> int:
    try:
        try:
            tell(cluster)
        except KeyboardInterrupt:
            say("Interrupted.")
            cluster.down()
            return 130
    # A TimeoutError is an OSError.
    except (UnusableClusterError, CommandFailedError, DemoFailedError, OSError) as error:
        say(f"[red]The demo failed: {escape(str(error))}[/red]")
        say(f"The cluster is left as it is, to look at; {cluster.way_down}.")
        return 1
    say(f"The cluster is still up, to look at; {cluster.way_down}.")
    return 0


if __name__ == "__main__":
    sys.exit(main())
