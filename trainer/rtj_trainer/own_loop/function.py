"""How a job's own function trains: `spec.builder.trainFunction`."""

from rtj_trainer import builder
from rtj_trainer.joining import Attempt
from rtj_trainer.own_loop.session import session_of


def run_function(attempt: Attempt) -> str:
    """Call the builder's function with a session; return a sentence about how it ended.

    Raises:
        StopError: every planned end but completion.
    """
    spec = attempt.config.builder
    with session_of(attempt, lambda: builder.load_module(spec)) as session:
        field = "spec.builder.trainFunction"
        function = builder.get_function(session.program, spec.train_function or "", field)
        builder.check_params(function, spec.train_params, "spec.builder.trainParams", session)
        try:
            function(session, **spec.train_params)
        except SystemExit as error:
            session.check_exit(error)
    return session.outcome
