"""Measures what the trainer promises about speed; `docs/performance.md` explains each figure.

Each stage is a module with `measure(repeats)`, which returns its part of the last line: the keys
with their medians, and `spread`. What is measured runs in processes of its own, from `peers`: ours,
and beside it what else people use.
"""
