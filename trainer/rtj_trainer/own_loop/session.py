"""The session: what a user's own training loop sees of the trainer."""

import contextlib
from collections.abc import Callable, Iterator
from types import ModuleType
from typing import Any

from rtj_api.names import Reason
from tensorflow.python.eager import context

from rtj_trainer import batches, builder, seeding
from rtj_trainer.attempt import ended
from rtj_trainer.callbacks import CallbackRunner
from rtj_trainer.commits.layout import INDICES
from rtj_trainer.epochs import EpochCount
from rtj_trainer.errors import StopError, UserError
from rtj_trainer.joining import Attempt
from rtj_trainer.loop import TrainingLoop
from rtj_trainer.own_loop.given import Source, Steps, check_fit, given, misused
from rtj_trainer.own_loop.handed import Handed
from rtj_trainer.pipeline import Pipeline, PipelineFactory, dataset_function
from rtj_trainer.preflight.proven import USE_PROVEN
from rtj_trainer.preflight.refusal import refuse
from rtj_trainer.progress import Progress
from rtj_trainer.state import variables_of
from rtj_trainer.trainee import prepare_to_fit
from rtj_trainer.watch import Watch, WatchedState

_INSTEAD = (
    "make it before session.steps(), and hand it, or the model, optimizer or metric that it "
    "belongs to, to session.track()"
)


@contextlib.contextmanager
def session_of(attempt: Attempt, load: Callable[[], ModuleType]) -> Iterator["Session"]:
    """Open the session of an attempt.

    Args:
        attempt: Holds the volume.
        load: Returns the user's program, or imports it.

    Raises:
        PermanentError: TensorFlow was used before, or the program does not train to the end.
    """
    if context.context()._context_handle is not None:
        misused(
            "TensorFlow was used before the session was opened: make models, variables and "
            "datasets inside of it, since it sets the seed, and open one session in a process"
        )
    environment = attempt.prepare()
    watch = Watch(_INSTEAD)
    with watch.made():
        seeding.seed_everything(attempt.config.seed)
        seeding.keras_generator()
        session = Session(attempt, load(), environment, watch)
        with session._running:
            yield session
            session._check_end()  # Within, so that what is being written is not lost.


class Session:
    """Gives each step its batch, exactly once in the committed trajectory."""

    def __init__(
        self, attempt: Attempt, program: ModuleType, environment: dict[str, Any], watch: Watch
    ) -> None:
        self._attempt = attempt
        self.program = program
        self._environment = environment
        self._watch = watch
        self._handed = Handed()
        self._running = contextlib.ExitStack()
        self._progress = Progress()
        self._model: Any = None
        self._loop: TrainingLoop | None = None
        self._state: WatchedState | None = None
        self._elements: Iterator[Any] = iter(())
        self._begun = False
        self._done = False
        self._ended_by: StopError | None = None

    @property
    def step(self) -> int:
        """Number of steps that are taken, over all attempts; the current one is not counted."""
        return self._progress.step

    @property
    def epoch(self) -> int:
        """Index of the epoch that the current batch belongs to, from 0."""
        return max(self._progress.epoch, 0)

    @property
    def step_in_epoch(self) -> int:
        """Index of the current batch in its epoch, from 0."""
        return self._progress.step_in_epoch

    @property
    def ends_epoch(self) -> bool:
        """Whether the current batch is the last of its epoch."""
        if self._loop is None or self._done:
            return False
        with self._watch.passing():
            return self._loop.ends_epoch()

    @property
    def outcome(self) -> str:
        """A sentence about the end of the training."""
        return ended(self._progress)

    def track(self, **objects: Any) -> None:
        """Hand over what the steps change; it is in each commit, and restored by `steps`.

        Args:
            objects: By a name of their own: built models, layers, optimizers and metrics,
                variables, generators, objects with `get_state()` and `set_state(state)`, and
                lists, tuples and dicts of them.

        Raises:
            PermanentError: `BuilderInvalid`: one is not built yet, or cannot be kept.
        """
        if self._begun:
            misused("session.track() must be called before session.steps(), which restores")
        for name, value in objects.items():
            self._handed.add(name, value)

    def steps(self, build: Callable[..., Any] | None = None, /, **params: Any) -> Iterator[Any]:
        """Restore all that was handed over, and return the batches from there to the end.

        What happens between two batches is one step: it is in a commit as a whole or not at all.

        Args:
            build: Returns a tf.data.Dataset with one epoch; in a job, by default, its
                datasetFunction with its datasetParams.
            params: Keyword arguments of `build`, as they could be in JSON.

        Raises:
            StopError: the dataset cannot be resumed exactly, or the commit is another program's.
        """
        source = self._begin(build, params)
        if self._attempt.config.checkpoint.keep_best:
            misused(
                "spec.checkpoint.keepBest needs the results of epochs, which a loop over "
                "session.steps() keeps to itself: use session.fit(), or leave keepBest out"
            )
        pipeline = self._pipeline(source)
        objects = self._handed.objects(None)
        state = WatchedState(self._handed.variables, [], objects, self._watch, self._progress)
        epochs = EpochCount(self._progress)
        described = {"variables": state.describe()}
        self._join(
            source=source,
            pipeline=pipeline,
            state=state,
            epochs=epochs,
            described=described,
            as_before={},
            validation_files=[],
            traced=True,
        )
        self._elements = (batches.training_data(element) for element in self._batches())
        return Steps(self._elements)

    def fit(
        self,
        model: Any,
        build: Callable[..., Any] | None = None,
        /,
        *,
        callbacks: Any = (),
        validation: Callable[[], Any] | None = None,
        **params: Any,
    ) -> None:
        """Train a compiled model to the end as `model.fit` does, with its callbacks.

        Args:
            model: A compiled keras.Model with the `fit` of Keras.
            build: See `steps`.
            callbacks: Keras callbacks; one whose state cannot be kept is refused.
            validation: Returns the dataset that the model is evaluated on after each epoch.
            params: See `steps`.

        Raises:
            StopError: the dataset, a callback or the model cannot be resumed exactly.
        """
        check_fit(model)
        self._model = model
        source = self._begin(build, params)
        pipeline = self._pipeline(source)

        def state_of(model: Any, functions: list[Any], runner: CallbackRunner) -> WatchedState:
            variables = {**variables_of(model), **self._handed.variables}
            objects = self._handed.objects(runner)
            return WatchedState(variables, functions, objects, self._watch, self._progress)

        trainee = prepare_to_fit(
            model,
            pipeline,
            self._progress,
            seed=self._attempt.config.seed,
            validation=validation,
            callbacks=lambda _: callbacks,
            state_of=state_of,
            best=self._attempt.config.checkpoint.keep_best,
            store=self._attempt.config.volume / INDICES,
        )
        self._join(
            source=source,
            pipeline=pipeline,
            state=trainee.state,
            epochs=trainee.epochs,
            described=trainee.identity,
            as_before=trainee.as_before,
            validation_files=trainee.file_names,
            traced=False,
        )
        for element in self._batches():
            trainee.epochs.train(element)

    def stop(self) -> None:
        """End the training with the current step, as if it had been the last."""
        if self._model is not None:
            self._model.stop_training = True  # What fit() goes by, and callbacks may change.
        else:
            self._progress.stopped_early = True

    def check_exit(self, error: SystemExit) -> None:
        """Return if the program may end its process so: without a failure, after its training.

        Raises:
            UserError: it is too early, or the program failed.
        """
        if error.code or not self._done:
            where = "after the training" if self._done else f"at step {self.step}, before its end"
            raise UserError(
                Reason.TRAINER_FAILED,
                f"the program called sys.exit({error.code!r}) {where}; raise an error if it "
                "failed, or call session.stop() and leave the loop to end the training early",
            ) from error

    def _begin(self, build: Callable[..., Any] | None, params: dict[str, Any]) -> Source:
        if self._begun:
            misused(
                "session.steps() or fit() was called a second time; one call gives the batches of "
                "all epochs, and session.epoch and session.ends_epoch tell where they end"
            )
        self._begun = True
        if build is not None:
            return given(build, params)
        spec = self._attempt.config.builder
        if not spec.dataset_function:
            misused("session.steps() needs the function that builds the dataset")
        own = {"function": spec.dataset_function, **spec.dataset_params}
        function = dataset_function(spec, self.program)
        return Source(function, own, spec.dataset_params, is_of_job=True)

    def _pipeline(self, source: Source) -> Pipeline:
        attempt, config = self._attempt, self._attempt.config
        factory = PipelineFactory(
            source.build, config.seed, config.epochs, config.total_steps, config.volume / INDICES
        )
        with self._watch.passing(), self._watch.passing_functions(), seeding.undisturbed():
            first_start = attempt.choice.commit_id is None
            pipeline = factory.pipeline(first_start, attempt.scratch, attempt.choice.manifest)
        if pipeline.unproven and not source.is_of_job:
            names = ", ".join(pipeline.unproven)
            why = "which only a job's datasetFunction could be rehearsed with"
            refuse([f"no test has proven {names}, {why}; {USE_PROVEN}"])
        self._progress = attempt.note(pipeline)
        return pipeline

    def _join(
        self,
        *,
        source: Source,
        pipeline: Pipeline,
        state: WatchedState,
        epochs: EpochCount,
        described: dict[str, Any],
        as_before: dict[str, Any],
        validation_files: list[str],
        traced: bool,
    ) -> None:
        attempt, spec = self._attempt, self._attempt.config.builder
        common = attempt.identity(
            builder.source_files(spec, self.program),
            source.identity,
            # Not trainParams: they name what is written, too.
            [source.params, pipeline.file_names, validation_files],
        )
        train = {"train": {"function": spec.train_function, **spec.train_params}}
        handed = {"variableNames": self._handed.names()}
        identity = {**common, **train, **described, **handed, **pipeline.identity}
        with self._watch.passing(), self._watch.passing_functions():
            self._loop = attempt.loop(
                environment=self._environment,
                identity=identity,
                pipeline=pipeline,
                progress=self._progress,
                state=state,
                epochs=epochs,
                as_before=as_before,
            )
        self._state = state
        state.begin(traced)

    def _batches(self) -> Iterator[Any]:
        if self._loop is None or self._state is None:
            raise AssertionError("not joined yet")
        if not self._attempt.complete:
            self._running.enter_context(self._loop.running())
            try:
                yield from self._state.each(self._loop.steps())
            except StopError as error:
                self._ended_by = error
                raise
            self._running.close()
        self._done = True

    def _check_end(self) -> None:
        if self._ended_by:
            raise self._ended_by  # The program caught it.
        if not self._begun:
            misused("the session ended without a call of session.steps() or session.fit()")
        if self._progress.stopped_early:
            next(self._elements, None)  # The loop was left by the last step, which counts too.
        if not self._done:
            raise UserError(
                Reason.TRAINER_FAILED,
                f"the loop was left at step {self.step}, before the batches of session.steps() "
                "were at their end; call session.stop() to end the training early",
            )
