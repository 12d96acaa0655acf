"""How many histories the model test tries: some hundreds; ten thousand by `make test-nightly`.

They are always the same hundreds, so that no change is held up by what it did not bring about; by
night they are new ones.
"""

from hypothesis import settings

settings.register_profile("default", max_examples=200, derandomize=True)
settings.register_profile("nightly", max_examples=10_000)
settings.load_profile("default")
