"""Parameters travel in one environment variable, whose length Linux bounds."""

import json
from typing import Any

import pytest
from rtj_api.status import JobStatus
from rtj_operator.core.observed import Job, Settings
from rtj_operator.core.trainer_config import trainer_config
from rtj_operator.core.validate import MAX_BUILDER_BYTES, parse_spec

pytestmark = pytest.mark.unit

LONGEST_VARIABLE = 128 * 1024


def spec_with(dataset: str, train: str) -> dict[str, Any]:
    return {
        "builder": {
            "trainFunction": "train",
            "trainParams": {"a": train},
            "datasetParams": {"a": dataset},
        },
        "epochs": 1,
        "checkpoint": {"claimName": "work"},
        "trainer": {"image": "i"},
    }


@pytest.mark.parametrize("letter", ["x", "é", "語", "$", '"'])
def test_bytes_of_the_variable_are_counted_and_not_letters(letter: str) -> None:
    each = len(json.dumps(letter, ensure_ascii=False).encode()) - 2
    most = MAX_BUILDER_BYTES // each
    spec, error = parse_spec("job", spec_with("", letter * (most - 1000)))
    assert spec is not None, error
    config = trainer_config(Job("ns", "job", "uid", 1, JobStatus(), spec), spec, 1, Settings())
    assert MAX_BUILDER_BYTES * 0.9 < len(config.to_json().encode()) < LONGEST_VARIABLE
    refused, _ = parse_spec("job", spec_with("", letter * (most + 1)))
    assert refused is None


def test_the_largest_parameters_are_named() -> None:
    _, error = parse_spec("job", spec_with("d" * 10_000, "t" * 90_000))
    assert "trainParams has 90008" in error
    assert "into a file beside the builder" in error
