"""Answers, before step 0, whether a pipeline can be resumed exactly, and by which strategy.

Most pipelines that cannot be resumed save and restore without an error and then give other data, so
nothing here waits for an error. The graph is read, not run (`graph`, `rules`); then one batch is
taken and the iterator is saved, because some operations fail only then (`probe`). What the rules do
not know is played through in processes of its own (`doubt`, `rehearsal`).
"""
