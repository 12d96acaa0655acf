"""What the trainer's benchmark makes of its samples: medians, nulls, and what a commit cost."""

import pytest
from rtj_bench_trainer.figures import has_null, summary
from rtj_bench_trainer.timeline import QUIET, TAIL, Commit, stall

pytestmark = pytest.mark.unit


def test_medians_and_spread_go_through_lists_and_objects() -> None:
    samples = [
        {"places": [value, 10 * value], "peers": {"ours": value}} for value in (3.0, 1.0, 2.0)
    ]
    assert summary(samples) == {
        "places": [2.0, 20.0],
        "peers": {"ours": 2.0},
        "spread": {"places": [[1.0, 3.0], [10.0, 30.0]], "peers": {"ours": [1.0, 3.0]}},
    }


def test_what_one_repeat_lacks_is_null_and_is_found() -> None:
    samples = [{"peers": {"ours": 1.0, "theirs": theirs}} for theirs in (2.0, None)]
    assert summary(samples)["peers"] == {"ours": 1.0, "theirs": None}
    assert has_null(summary(samples)["peers"])
    assert has_null({"places": [1.0, None]})
    assert not has_null({"places": [0.0, 1.0], "peers": {"ours": 0}})


def ends(*durations: float) -> list[float]:
    return [sum(durations[: count + 1]) for count in range(len(durations))]


def test_a_commit_costs_its_call_and_all_slower_steps_until_it_is_durable() -> None:
    # After the quiet steps the call takes 0.5 s; three steps are slower by 0.25, 0.5 and 0.125 s.
    times = ends(*[1.0] * (QUIET + 1), 1.75, 1.5, 1.125, 1.0, 1.0)
    durable = times[QUIET + 2] + 0.01
    assert stall(times, Commit(QUIET, durable)) == pytest.approx(0.75 + 0.5 + 0.125)


def test_a_commit_that_is_durable_before_the_next_step_has_a_tail_too() -> None:
    times = ends(*[1.0] * (QUIET + 1), 3.0, *[1.0] * TAIL)
    assert stall(times, Commit(QUIET, times[QUIET] + 2.0)) == pytest.approx(2.0)


@pytest.mark.parametrize(("after", "more"), [(QUIET - 1, 9), (QUIET, 1)])
def test_too_few_steps_tell_nothing(after: int, more: int) -> None:
    times = ends(*[1.0] * (QUIET + 1 + more))
    with pytest.raises(ValueError, match="too few"):
        stall(times, Commit(after, times[after]))
