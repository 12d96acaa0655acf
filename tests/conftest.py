"""How many histories the model test tries: some hundreds; ten thousand by `make test-nightly`."""

from hypothesis import settings

settings.register_profile("default", max_examples=200)
settings.register_profile("nightly", max_examples=10_000)
settings.load_profile("default")
