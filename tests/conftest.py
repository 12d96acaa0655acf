"""Which histories the model test tries: some hundreds, always the same; random ones at night.

A change must not fail by a history that it has nothing to do with, so new ones are looked for by
`make test-nightly`, ten thousand of them.
"""

import pytest
from hypothesis import settings
from hypothesis.internal.conjecture import providers
from hypothesis.internal.constants_ast import Constants

# First, or it would take over what is not said here from the profile of that name: "default".
settings.register_profile("nightly", max_examples=10_000)
settings.register_profile("default", max_examples=200, derandomize=True)
settings.load_profile("default")

# Hypothesis likes to draw numbers that it finds in the project's modules, as far as they are loaded
# by then: one test alone would try other histories than all of them. There is no setting for this,
# and this fails should a later version call it by another name.
pytest.MonkeyPatch().setattr(providers, "_get_local_constants", Constants)
