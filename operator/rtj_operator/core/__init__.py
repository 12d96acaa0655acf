"""What the operator decides, as plain functions over frozen data: no I/O, no clock, no framework.

Start with `decide.decide`; every policy that it composes is a small module beside it.
"""
