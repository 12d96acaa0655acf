"""The demo: a training job loses its node in mid-epoch and ends with the same weights.

Its parts (a cluster, images, jobs, the check of a job's volume) are also what the end-to-end
tests are made of, so the demo and the tests cannot drift apart.
"""
