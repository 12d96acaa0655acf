"""What a trainer is told: from the spec, and from what status says was decided."""

from pathlib import Path

from rtj_api.builder import Builder
from rtj_api.launch import BuilderConfig, LeaseConfig, TrainerConfig
from rtj_api.names import BUILDER_MOUNT_PATH
from rtj_api.restore import ForkRequest, RestoreOutcome, RestoreRequest, step_of
from rtj_api.spec import JobSpec

from rtj_operator.core.observed import Job, Settings


def trainer_config(job: Job, spec: JobSpec, attempt: int, settings: Settings) -> TrainerConfig:
    """Return what the trainer of this attempt must know."""
    fork = job.status.forked_from
    request = _request(job)
    return TrainerConfig(
        job_name=job.name,
        job_uid=job.uid,
        attempt=attempt,
        builder=builder_config(spec.builder),
        seed=spec.seed,
        epochs=spec.epochs,
        total_steps=spec.total_steps,
        checkpoint=spec.checkpoint,
        cache=spec.dataset.cache,
        fingerprint_policy=spec.fingerprint_policy,
        expected_step=_expected_step(job, request),
        restore=request,
        fork_from=ForkRequest(job_uid=fork.job_uid, commit=fork.commit) if fork else None,
        lease=LeaseConfig(
            namespace=job.namespace, name=job.name, interval_seconds=settings.lease_interval
        ),
    )


def builder_config(builder: Builder) -> BuilderConfig:
    """Return where the builder is in the trainer's pod, and how to call it."""
    return BuilderConfig(
        path=Path(BUILDER_MOUNT_PATH) if builder.config_map or builder.claim else None,
        module=builder.module,
        dataset_function=builder.dataset_function,
        dataset_params=builder.dataset_params,
        model_function=builder.model_function,
        model_params=builder.model_params,
        callbacks_function=builder.callbacks_function,
        callbacks_params=builder.callbacks_params,
        validation_function=builder.validation_function,
        validation_params=builder.validation_params,
        batch_function=builder.batch_function,
        batch_params=builder.batch_params,
        train_function=builder.train_function,
        train_params=builder.train_params,
    )


def _request(job: Job) -> RestoreRequest | None:
    """Return the request to go back, as long as no attempt is known to have answered it."""
    noted = job.status.restore
    if noted is None or noted.outcome is not RestoreOutcome.PENDING:
        return None
    return RestoreRequest(request=noted.request, commit=noted.from_commit)


def _expected_step(job: Job, request: RestoreRequest | None) -> int:
    """Return the step below which the trainer must not start without saying so."""
    newest = job.status.last_commit.step if job.status.last_commit else 0
    return min(newest, step_of(request.commit)) if request else newest
