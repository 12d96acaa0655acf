"""The objects of the model's one job, as its user writes them, and what its pods are told."""

import json
from typing import Any

from rtj_api.launch import TrainerConfig
from rtj_api.names import CONFIG_ENV

NAMESPACE, JOB = "ns", "job"
TOTAL_STEPS = 40
HANG_SECONDS = 60


def read_config(pod: dict[str, Any]) -> TrainerConfig:
    env = pod["spec"]["containers"][0]["env"]
    text = next(found["value"] for found in env if found["name"] == CONFIG_ENV)
    return TrainerConfig.model_validate_json(text.replace("$$", "$"))


def config_map() -> dict[str, Any]:
    return {"metadata": {"name": "code"}, "data": {"builder.py": ""}}


def make_job(run_policy: dict[str, Any], failure_policy: dict[str, Any]) -> dict[str, Any]:
    spec = {
        "builder": {"configMap": {"name": "code"}},
        "totalSteps": TOTAL_STEPS,
        "checkpoint": {"claimName": "work"},
        "trainer": {"image": "trainer", "gracePeriodSeconds": 30},
        "runPolicy": run_policy,
        "failurePolicy": failure_policy,
        "hangPolicy": {
            "startingTimeoutSeconds": HANG_SECONDS,
            "trainingTimeoutSeconds": HANG_SECONDS,
        },
    }
    return json.loads(json.dumps({"metadata": {"name": JOB}, "spec": spec}))
