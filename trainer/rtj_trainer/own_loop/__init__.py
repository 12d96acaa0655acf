"""A user's own training loop, with the guarantees of the trainer's.

The trainer's own way knows all that a step can reach, since it traces the step before it restores.
Here the step is the user's program, so it is turned round: the user hands over what the steps
change (`handed`), all of it is restored before the first batch is given out, and what changed
without having been handed over stops the training before it could be committed (`watch`).

The loop itself, commits, position, checks and ledger are those of `rtj_trainer.joining`.
"""
