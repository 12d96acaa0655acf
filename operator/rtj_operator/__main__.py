"""`python -m rtj_operator`: watch, lead, and work until something ends it.

Crash-only: when any part fails (a watch, the leader Lease), the process ends and Kubernetes starts
another. That costs a second, and no state is in memory that could be lost.
"""

import asyncio
import logging
import os
import signal
import sys
from typing import NoReturn

import kopf

from rtj_operator import logs
from rtj_operator.cluster import JOBS, NODE_LEASES, ClusterError, NotFoundError
from rtj_operator.config import Config, ConfigError
from rtj_operator.handlers import Handlers, make_registry, make_settings
from rtj_operator.kube import KubeCluster
from rtj_operator.leader import Leader
from rtj_operator.memory import Memory
from rtj_operator.observe import list_keys
from rtj_operator.queue import WorkQueue
from rtj_operator.reconcile import Reconciler

log = logging.getLogger("rtj_operator")


async def run(config: Config) -> None:
    """Run until a part fails or a signal arrives; then end the process.

    Raises ConfigError or ClusterError if it cannot even begin.
    """
    memory, queue = Memory(), WorkQueue()
    async with await KubeCluster.connect() as cluster:
        await _check_crd(cluster, config)
        leader = Leader(cluster, config.operator_namespace, config.identity, memory.silences)
        reconciler = Reconciler(cluster, memory, config.settings)
        ready = asyncio.Event()
        watching = asyncio.create_task(_watch(config, Handlers(queue, memory), ready))
        leading = asyncio.create_task(_lead(config, cluster, leader, queue, reconciler))
        stopped = asyncio.create_task(_signal(ready))
        parts = {watching, leading, stopped}
        done, _ = await asyncio.wait(parts, return_when=asyncio.FIRST_COMPLETED)
        if stopped in done:
            leading.cancel()
            await leader.release()
            log.info("stopped by a signal")
            _end(0)
        for task in done:
            log.critical("the operator ends; a new process takes over", exc_info=task.exception())
        _end(1)


def _end(code: int) -> NoReturn:
    """End at once: the framework's own clean-up takes seconds, and nothing needs it."""
    logging.shutdown()
    os._exit(code)


async def _check_crd(cluster: KubeCluster, config: Config) -> None:
    """Fail early: kopf would wait silently for a kind that is not there."""
    try:
        await list_keys(cluster, config.namespaces[:1])
    except NotFoundError:
        raise ConfigError(
            f"The API server does not know {JOBS.plural}.{JOBS.api_version}: "
            "install the CRD (helm upgrade, or kubectl apply -f crds/)."
        ) from None


async def _watch(config: Config, handlers: Handlers, ready: asyncio.Event) -> None:
    namespaces = {*config.namespaces, NODE_LEASES} if config.namespaces else set()
    await kopf.operator(
        registry=make_registry(handlers),
        settings=make_settings(),
        # Unset, kopf asks for the name of the user, which uid 65532 of the image does not have.
        identity=config.identity,
        standalone=True,
        clusterwide=not namespaces,
        namespaces=namespaces,
        liveness_endpoint=f"http://0.0.0.0:{config.health_port}/healthz",
        ready_flag=ready,
    )


async def _signal(ready: asyncio.Event) -> None:
    """Wait for the signal to end. kopf installs handlers of its own, so ours must come later."""
    stop = asyncio.Event()
    await ready.wait()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    await stop.wait()


async def _lead(
    config: Config,
    cluster: KubeCluster,
    leader: Leader,
    queue: WorkQueue,
    reconciler: Reconciler,
) -> None:
    await leader.acquire()
    async with asyncio.TaskGroup() as group:
        group.create_task(leader.hold())
        group.create_task(_resync(config, cluster, queue))
        for _ in range(config.workers):
            group.create_task(queue.work(reconciler))


async def _resync(config: Config, cluster: KubeCluster, queue: WorkQueue) -> None:
    """Look at every job now and then: whatever event was missed is made good."""
    while True:
        try:
            for key in await list_keys(cluster, config.namespaces):
                queue.add(key)
        except ClusterError as error:
            log.warning("resync failed", extra={"error": str(error)})
        await asyncio.sleep(config.resync_seconds)


def main() -> None:
    """Run the operator; exit non-zero unless a signal asked for the end."""
    try:
        config = Config.from_env()
        logs.configure(config.log_level)
        asyncio.run(run(config))
    except (ConfigError, ClusterError) as error:
        sys.exit(f"rtj-operator: {error}")


if __name__ == "__main__":
    main()
