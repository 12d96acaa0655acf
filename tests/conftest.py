"""Which histories the model test tries: some hundreds, always the same; random ones at night.

A change must not fail by a history that it has nothing to do with, so new ones are looked for by
`make test-nightly`, ten thousand of them.
"""

from hypothesis import settings

# First, or it would take over what is not said here from the profile of that name: "default".
settings.register_profile("nightly", max_examples=10_000)
settings.register_profile("default", max_examples=200, derandomize=True)
settings.load_profile("default")
