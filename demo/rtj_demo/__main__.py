"""`make demo`: run the story on the cluster that was asked for, and clean up if it is cut short."""

import argparse
import signal
import sys
from collections.abc import Callable

from rtj_demo.clusters import DemoCluster, UnusableClusterError
from rtj_demo.current import CurrentCluster
from rtj_demo.dev import DevCluster
from rtj_demo.kind import KindCluster
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
    parser.add_argument("--cluster", choices=CLUSTERS, default="dev")
    chosen = parser.parse_args().cluster
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        cluster = CLUSTERS[chosen]()
    except UnusableClusterError as error:
        say(f"[red]{error}[/red]")
        return 2
    try:
        tell(cluster)
    except (UnusableClusterError, CommandFailedError, DemoFailedError, TimeoutError) as error:
        say(f"[red]The demo failed: {error}[/red]")
        say("The cluster is left as it is, to look at; `make clean` takes it down.")
        return 1
    except KeyboardInterrupt:
        say("Interrupted: taking everything down.")
        cluster.down()
        return 130
    say("The cluster is still up, to look at; `make clean` takes it down.")
    return 0


if __name__ == "__main__":
    sys.exit(main())
