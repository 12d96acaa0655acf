"""A real Kubernetes on one machine, without Docker."""

import os

from rtj_devcluster import environment

environment.complete(os.environ)
