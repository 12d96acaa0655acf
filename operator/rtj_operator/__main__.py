"""`python -m rtj_operator`: watch, lead, and work until something ends it.

Crash-only: a lost leader Lease, or a watch that is forbidden, ends the process, and Kubernetes
starts another; a watch that breaks is opened again. That costs a second, and no state is in memory
that could be lost.
"""

import asyncio
import gc
import logging
import os
import signal
import sys
from collections.abc import Callable, Coroutine, Iterable
from functools import partial
from typing import Any, NoReturn

import kopf
from rtj_api.names import LABEL_JOB

from rtj_operator import logs, metrics
from rtj_operator.announcer import AT_ONCE, Announcer
from rtj_operator.cluster import (
    JOBS,
    LEASES,
    NODE_LEASES,
    PODS,
    ClusterError,
    NotFoundError,
    UnavailableError,
)
from rtj_operator.config import Config, ConfigError
from rtj_operator.endpoints import serving
from rtj_operator.handlers import Handlers, make_registry, make_settings
from rtj_operator.health import Pulse, Vitals
from rtj_operator.kube import KubeCluster
from rtj_operator.leader import Leader
from rtj_operator.memory import Memory
from rtj_operator.observe import every_job
from rtj_operator.passing_over import key_of, passed_over
from rtj_operator.queue import WorkQueue
from rtj_operator.reconcile import Reconciler
from rtj_operator.watch import Watch

log = logging.getLogger("rtj_operator")

SIGNALS = (signal.SIGTERM, signal.SIGINT)
REACH_AGAIN_SECONDS = 2.0
RESYNC_AGAIN_SECONDS = 10.0
COLLECT_AFTER = 50_000
"""New objects until the next search for cycles. Events and answers are thousands of objects that go
without it; a search after each 700 took a sixth of the CPU, and up to 0.2 s at a time."""

Loop = Callable[[], Coroutine[Any, Any, None]]
"""Something that is done for ever."""


async def run(config: Config) -> None:
    """Run until a part fails or a signal arrives; then end the process.

    Raises ConfigError or ClusterError if it cannot even begin.
    """
    memory, queue, ready = Memory(), WorkQueue(), asyncio.Event()
    pulse = Pulse(memory.silences, config.namespaces)
    metrics.QUEUE_DEPTH.set_function(queue.depth)
    for number in SIGNALS:
        asyncio.get_running_loop().add_signal_handler(number, _end, 0)

    def vitals() -> Vitals:
        watching = ready.is_set() and pulse.listening()
        return pulse.vitals(queue.longest_turn(), watching=watching)

    async with (
        await KubeCluster.connect(pulse) as cluster,
        serving(config.health_port, vitals),
    ):
        await _wait_for_crd(cluster, config)
        leader = Leader(cluster, config.operator_namespace, config.identity, pulse, config.lease)
        announcer = Announcer(cluster, queue.nobody_waits)
        metrics.EVENTS_WAITING.set_function(announcer.waiting)
        reconciler = Reconciler(
            cluster, memory, config.settings, announcer.add, jobs_waiting=queue.depth
        )
        handlers = Handlers(queue, memory, pulse)
        watching = asyncio.create_task(_watch_jobs(config, handlers, ready))
        beside = asyncio.create_task(_watch_parts(config, cluster, handlers))
        work: list[Loop] = [
            partial(_resync, config, cluster, queue, memory),
            *[partial(queue.work, reconciler)] * config.workers,
            *[announcer.run] * AT_ONCE,
        ]
        leading = asyncio.create_task(_lead(leader, handlers, work))
        stopped = asyncio.create_task(_signal(ready))
        parts = {watching, beside, leading, stopped}
        done, _ = await asyncio.wait(parts, return_when=asyncio.FIRST_COMPLETED)
        if stopped in done:
            await leader.hand_over(leading)
            log.info("stopped by a signal")
            _end(0)
        for task in done:
            log.critical("the operator ends; a new process takes over", exc_info=task.exception())
        _end(1)


def _end(code: int) -> NoReturn:
    """End at once: the framework's own clean-up takes seconds, and nothing needs it."""
    logging.shutdown()
    os._exit(code)


async def _wait_for_crd(cluster: KubeCluster, config: Config) -> None:
    """Fail early: kopf would wait silently for a kind that is not there.

    An API server that is away is waited for: a process that ended would be started again ever more
    slowly, and be minutes late when the API server is back.
    """
    while True:
        try:
            await anext(every_job(cluster, config.namespaces), None)
        except UnavailableError as error:
            log.warning("the API server is out of reach", extra={"error": str(error)})
            await asyncio.sleep(max(REACH_AGAIN_SECONDS, error.retry_after))
        except NotFoundError:
            raise ConfigError(
                f"The API server does not know {JOBS.plural}.{JOBS.api_version}: "
                "install the CRD (helm upgrade, or kubectl apply -f crds/)."
            ) from None
        else:
            return


async def _watch_parts(config: Config, cluster: KubeCluster, handlers: Handlers) -> None:
    namespaces = config.namespaces or ("",)
    beating = {*namespaces, NODE_LEASES} if config.namespaces else namespaces
    async with asyncio.TaskGroup() as group:
        for namespace in beating:
            group.create_task(Watch(cluster, LEASES, namespace, handlers.lease).run())
        for namespace in namespaces:
            pods = (PODS, namespace, handlers.pod, LABEL_JOB, handlers.pods_listed)
            group.create_task(Watch(cluster, *pods).run())


async def _watch_jobs(config: Config, handlers: Handlers, ready: asyncio.Event) -> None:
    await kopf.operator(
        registry=make_registry(handlers),
        settings=make_settings(),
        # Unset, kopf asks for the name of the user, which uid 65532 of the image does not have.
        identity=config.identity,
        standalone=True,
        clusterwide=not config.namespaces,
        namespaces=config.namespaces,
        ready_flag=ready,
    )


async def _signal(ready: asyncio.Event) -> None:
    """Wait for the signal to end. kopf installs handlers of its own, so ours must come later."""
    stop = asyncio.Event()
    await ready.wait()
    for number in SIGNALS:
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    await stop.wait()


async def _lead(leader: Leader, handlers: Handlers, work: Iterable[Loop]) -> None:
    """Wait until this process leads; do then what only the leader does."""
    await leader.acquire()
    handlers.lead()
    async with asyncio.TaskGroup() as group:
        group.create_task(leader.hold())
        for loop in work:
            group.create_task(loop())


async def _resync(config: Config, cluster: KubeCluster, queue: WorkQueue, memory: Memory) -> None:
    """Look at every job now and then: whatever event was missed is made good."""
    while True:
        pause = config.resync_seconds
        try:
            unseen = set(metrics.JOBS.known())
            async for raw in every_job(cluster, config.namespaces):
                unseen.discard(key_of(raw))
                if not passed_over(raw, memory):
                    await queue.add_last(key_of(raw))
            for key in unseen:
                await queue.add_last(key)
        except ClusterError as error:
            log.warning("resync failed", extra={"error": str(error)})
            told = error.retry_after if isinstance(error, UnavailableError) else 0.0
            pause = max(min(RESYNC_AGAIN_SECONDS, pause), told)
        await asyncio.sleep(pause)


def main() -> None:
    """Run the operator; exit non-zero unless a signal asked for the end."""
    try:
        config = Config.from_env()
        logs.configure(config.log_level)
        gc.freeze()  # What was imported stays.
        gc.set_threshold(COLLECT_AFTER, 10, 10)
        asyncio.run(run(config))
    except (ConfigError, ClusterError, OSError) as error:
        sys.exit(f"rtj-operator: {error}")


if __name__ == "__main__":
    main()
