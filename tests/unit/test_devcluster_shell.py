"""A program that is followed hands on its lines, and never outlives who follows it."""

import pytest
from rtj_devcluster.errors import CommandFailedError
from rtj_devcluster.processes import Process
from rtj_devcluster.shell import follow, wait_until

pytestmark = pytest.mark.unit


def test_lines_are_handed_on_and_a_failure_ends_with_them() -> None:
    seen: list[str] = []
    with pytest.raises(CommandFailedError, match=r"(?s)failed\none\ntwo\n$"):
        follow(["sh", "-c", "echo one; echo two >&2; exit 3"], seen.append)
    assert seen == ["one\n", "two\n"]


def test_an_interrupt_ends_the_program_and_what_it_started() -> None:
    pids: list[int] = []

    def interrupt(line: str) -> None:
        pids.extend(map(int, line.split()))
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        follow(["sh", "-c", "sleep 300 & echo $$ $!; wait"], interrupt)

    assert len(pids) == 2
    wait_until(lambda: not any(map(Process.of_pid, pids)), what="both have ended", timeout=10)
