"""A whole attempt of the trainer in this process, with everything that it does in a cluster.

Only the API server is not there: each beat is made, and sent nowhere.
"""

import logging
from pathlib import Path
from typing import Any, cast

from rtj_api.checkpoint import CheckpointPolicy
from rtj_api.heartbeat import Heartbeat, TrainerPhase
from rtj_api.launch import BuilderConfig, TrainerConfig
from rtj_trainer.attempt import run_attempt
from rtj_trainer.heartbeat import Heart
from rtj_trainer.lease import Lease
from rtj_trainer.signals import StopRequest


class _Nowhere:
    def beat(self, text: str) -> None:
        """Take a beat."""


def make_heart(kind: type[Heart] = Heart) -> Heart:
    """Return a heart that beats every five seconds."""
    return kind(Heartbeat(attempt=1, phase=TrainerPhase.STARTING), cast(Lease, _Nowhere()))


def run(
    heart: Heart,
    folder: str,
    dataset: dict[str, Any],
    model: dict[str, Any],
    module: str,
    epochs: int = 1,
    every_seconds: int | None = None,
) -> None:
    """Train to the end, with the callbacks that a function `build_callbacks` of the module makes.

    Args:
        heart: From `make_heart`.
        folder: The volume.
        dataset: Parameters of `workload.build_dataset`.
        model: Parameters of `workload.build_model`.
        module: Has these functions.
        epochs: Of the job.
        every_seconds: Between two commits; None for none but the last.
    """
    logging.basicConfig(level=logging.INFO)
    builder = BuilderConfig(
        path=None,
        module=module,
        dataset_function="build_dataset",
        dataset_params=dataset,
        model_function="build_model",
        model_params=model,
        callbacks_function="build_callbacks",
    )
    never = {"every_steps": 10**9} if every_seconds is None else {}
    config = TrainerConfig(
        job_name="bench",
        job_uid="bench",
        attempt=1,
        volume=Path(folder),
        builder=builder,
        seed=7,
        epochs=epochs,
        total_steps=None,
        checkpoint=CheckpointPolicy(
            claim_name="bench", keep=2, every_seconds=every_seconds, **never
        ),
    )
    heart.start()
    run_attempt(config, "bench", heart, StopRequest())
