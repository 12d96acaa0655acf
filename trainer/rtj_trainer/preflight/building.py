"""Builds all that a job is before step 0, in a process of its own, and throws it away.

The model's training step is traced, the validation built, and the callbacks looked at, by the code
of a job. The process speaks through files, as those of a rehearsal do: `plan.json`, `built.json`.
"""

import json
import sys
from pathlib import Path
from typing import Any

from rtj_api.checkpoint import CheckpointPolicy
from rtj_api.launch import TrainerConfig
from rtj_api.names import ExitCode

from rtj_trainer import startup
from rtj_trainer.preflight.rehearsal import Plan, Verdict, answer, failed, or_refusal, run_apart


def build(plan: Plan, folder: Path) -> Verdict:
    """Tell whether a job with a modelFunction would get as far as its first step.

    Args:
        plan: Not changed; its rehearsal is another question.
        folder: Empty.
    """
    (folder / "plan.json").write_text(plan.model_dump_json(by_alias=True))
    ended = run_apart(__name__, "build", folder, plan)
    built = answer(folder / "built.json")
    return failed(built, "build the model", ended) or Verdict(ExitCode.COMPLETED, "")


def main(folder: Path) -> None:
    """Be that process."""
    startup.begin_import()
    from rtj_trainer.environment import prepare_tensorflow

    prepare_tensorflow({})
    plan = Plan.model_validate_json((folder / "plan.json").read_text())
    (folder / "built.json").write_text(json.dumps(or_refusal(lambda: _build(plan, folder))))


def _build(plan: Plan, folder: Path) -> dict[str, Any]:
    from rtj_trainer import builder
    from rtj_trainer.cache.examples import ExamplesFactory
    from rtj_trainer.cache.sample import sample
    from rtj_trainer.pipeline import Factory, dataset_function
    from rtj_trainer.progress import Progress
    from rtj_trainer.trainee import build_trainee
    from rtj_trainer.watch import Watch

    config = TrainerConfig(
        job_name="verify",
        job_uid="verify",
        attempt=1,
        volume=folder,
        builder=plan.builder,
        seed=plan.seed,
        epochs=plan.epochs,
        total_steps=plan.total_steps,
        checkpoint=CheckpointPolicy(claim_name="none"),
        cache=plan.cache,
    )
    module = builder.load_module(plan.builder)
    cached = None
    if plan.cache:
        examples = ExamplesFactory(dataset_function(plan.builder, module), plan.seed)
        cached = sample(examples, plan.cache, folder / "probe")
    factory = Factory(config, module, cached)
    pipeline = factory.pipeline(first_start=True, scratch=folder / "probe")
    progress = Progress(lengths=pipeline.stream.lengths, epochs=plan.epochs)
    build_trainee(config, module, factory, pipeline, progress, Watch(""))  # No step follows.
    return {}


if __name__ == "__main__":
    main(Path(sys.argv[2]))
