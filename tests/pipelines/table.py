"""`python -m tests.pipelines.table`: proves the table of pipelines and writes docs/pipelines.md.

A row is a function in `builders/`; its docstring is its name. The trainer's own code says whether
the pipeline is exact or refused. If it is exact, one process saves the position at several batches,
and another restores each and compares every batch from there to the end of the job.
"""

import ast
import json
import os
import re
import select
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.pipelines.files import write_files

ROOT = Path(__file__).parents[2]
DOCUMENT = ROOT / "docs" / "pipelines.md"
BUILDERS = Path(__file__).parent / "builders"
_SECONDS = 300
_HASH_SEEDS = {"record": "0", "restore": "1"}
_MODULES = {
    "sources": "Where examples come from",
    "by_place": "Sources of `rtj_trainer.data`",
    "ordering": "What decides their order",
    "shaping": "How they become batches",
    "stateful": "Random numbers, Python, variables, tables",
    "storing": "Caches, files, devices",
}


@dataclass(frozen=True)
class Row:
    """A pipeline of the table."""

    module: str
    function: str
    title: str
    parameters: tuple[str, ...]

    def __str__(self) -> str:
        return f"{self.module}-{self.function}"


@dataclass(frozen=True)
class Result:
    """What was found out about a row."""

    line: str
    """The row as it stands in the document."""
    wrong: str
    """Empty, or how a restored pipeline differed although it was accepted."""
    strategy: str = ""
    operations: tuple[str, ...] = ()
    unproven: tuple[str, ...] = ()


def rows() -> list[Row]:
    """Return all rows in the order of the document."""
    found = []
    for module in _MODULES:
        for node in ast.parse((BUILDERS / f"{module}.py").read_text()).body:
            if isinstance(node, ast.FunctionDef) and not node.name.startswith("_"):
                parameters = tuple(argument.arg for argument in node.args.args)
                found.append(Row(module, node.name, ast.get_docstring(node) or "", parameters))
    return found


class Prover:
    """A process that records or restores.

    Args:
        hash_seed: Of Python, for two processes that order sets otherwise, each time alike.
    """

    def __init__(self, hash_seed: str) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.pipelines.prover"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            cwd=ROOT,
            env={
                **os.environ,
                "TF_CPP_MIN_LOG_LEVEL": "2",
                "PYTHONHASHSEED": hash_seed,
                "CUDA_VISIBLE_DEVICES": "-1",
            },
        )
        self.ask()

    def ask(self, **request: Any) -> dict[str, Any]:
        """Send a request, if any, and return the answer; a process that gave none is ended."""
        assert self._process.stdin
        assert self._process.stdout
        if request:
            self._process.stdin.write(json.dumps(request).encode() + b"\n")
            self._process.stdin.flush()
        ready, _, _ = select.select([self._process.stdout], [], [], _SECONDS)
        line = self._process.stdout.readline() if ready else b""
        if not line:
            self.close()
            return {"wrong": "the process died" if ready else f"no answer within {_SECONDS} s"}
        answer: dict[str, Any] = json.loads(line)
        return answer

    @property
    def alive(self) -> bool:
        return self._process.poll() is None

    def close(self) -> None:
        self._process.kill()
        self._process.wait()


class Provers:
    """Two processes that never saw each other's pipelines, and the files that these read."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._processes: dict[str, Prover] = {}
        self._data = folder / "data"
        self._data.mkdir()
        write_files(self._data)
        self._ask("record", do="files", folder=str(self._data))

    def examine(self, row: Row, every: bool = False, listing: bool = False) -> Result:
        """Return the trainer's verdict on a row, proven.

        Args:
            row: The pipeline.
            every: Save at every batch of three epochs instead of some.
            listing: Also list its operations.
        """
        with tempfile.TemporaryDirectory(dir=self._folder) as folder:
            request = {
                "module": row.module,
                "function": row.function,
                "params": {name: str(self._data) for name in row.parameters},
                "endless": row.function == "endless",
                "folder": folder,
                "every": every,
                "listing": listing,
            }
            found = self._ask("record", do="record", **request)
            if "refused" in found:
                return self._refused(row, found["refused"])
            wrong = found["wrong"] or self._ask("restore", do="restore", **request)["wrong"]
        if wrong:
            return Result(_line(row, f"silently wrong: {wrong}", "", ""), wrong)
        strategy = found["strategy"]
        note = found["why"] if strategy == "replay" else ""
        line = _line(row, "exact", f"`{strategy}`", note)
        return Result(line, "", strategy, tuple(found["operations"]), tuple(found["unproven"]))

    def _refused(self, row: Row, message: str) -> Result:
        message = message.partition("training was not started: ")[2] or message
        message = re.sub(r", \w+\.py:\d+", "", message).replace(str(self._data) + "/", "")
        reason, _, instead = message.partition("; ")
        return Result(_line(row, f"refused: {reason}", "", instead), "")

    def _ask(self, name: str, **request: Any) -> dict[str, Any]:
        if name not in self._processes or not self._processes[name].alive:
            self._processes[name] = Prover(_HASH_SEEDS[name])
        return self._processes[name].ask(**request)

    def close(self) -> None:
        for process in self._processes.values():
            process.close()


@contextmanager
def provers() -> Iterator[Provers]:
    """Start what proves."""
    with tempfile.TemporaryDirectory(prefix="rtj-pipelines-") as folder:
        found = Provers(Path(folder))
        try:
            yield found
        finally:
            found.close()


def _line(row: Row, verdict: str, strategy: str, note: str) -> str:
    cells = [row.title, verdict, strategy, note]
    return f"| {' | '.join(cell.replace('|', ' ') for cell in cells)} |".replace("  ", " ")


def proven_operations(results: Iterable[Result]) -> tuple[set[str], set[str]]:
    """Return the operations that are exact, and those that are only if all is read again."""
    whole: set[str] = set()
    replayed: set[str] = set()
    for result in results:
        (replayed if result.strategy == "replay" else whole).update(result.operations)
    return whole, replayed - whole


def render(results: dict[Row, Result]) -> str:
    """Return the document."""
    parts = [(Path(__file__).parent / "introduction.md").read_text()]
    for module, title in _MODULES.items():
        lines = [result.line for row, result in results.items() if row.module == module]
        parts.append(f"## {title}\n\n{_HEADER}\n" + "\n".join(lines) + "\n")
    operations = [
        ", ".join(f"`{name}`" for name in sorted(names))
        for names in proven_operations(results.values())
    ]
    parts.append(f"{_OPERATIONS}\n{operations[0]}.\n\n{_REPLAYED}: {operations[1]}.\n")
    return "\n".join(parts)


_HEADER = """\
| pipeline | verdict | position kept by | why, or what to write instead |
|---|---|---|---|"""

_OPERATIONS = (
    "## Operations that are proven\n\n"
    "The dataset operations of the rows above that are exact. A pipeline with another is not "
    "refused for that: before step 0 it is rehearsed in two processes of its own, and trained on "
    "if that was exact.\n"
)
_REPLAYED = "Only where all is read again"


def main() -> None:
    """Prove all and write the document."""
    results: dict[Row, Result] = {}
    with provers() as found:
        for row in rows():
            results[row] = found.examine(row, listing=True)
            sys.stdout.write(f"{row}: {results[row].line}\n")
            sys.stdout.flush()
    DOCUMENT.write_text(render(results))
    if any(result.wrong for result in results.values()):
        sys.exit(1)


if __name__ == "__main__":
    main()
