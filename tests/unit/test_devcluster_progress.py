"""In a log, a stage says how far it is, and says nothing while there is nothing to wait for."""

import time

import pytest
from rtj_devcluster.progress import stage

pytestmark = pytest.mark.unit


@pytest.mark.parametrize(
    ("seconds_per_tenth", "shares"), [(0.1, []), (1.0, [30, 60, 90]), (5.0, range(10, 100, 10))]
)
def test_a_log_has_a_line_for_each_tenth_that_somebody_waited_for(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    seconds_per_tenth: float,
    shares: list[int],
) -> None:
    now = 0.0
    monkeypatch.setattr(time, "monotonic", lambda: now)
    with stage("Work", total=20) as advance:
        for done in range(0, 22, 2):
            now = done / 2 * seconds_per_tenth
            advance(done)
    lines = [line for line in capsys.readouterr().err.splitlines() if "%" in line]
    assert lines == [
        f"  Work: {share} % after {share / 10 * seconds_per_tenth:.0f} s" for share in shares
    ]
