"""Reports for people to read on a terminal of any kind: plain lines, aligned, nothing to colour."""

from collections.abc import Iterable, Sequence

from rtj_trainer.inspection.survey import AttemptReport, CommitReport, JobReport, LedgerReport


def of(report: JobReport | LedgerReport) -> str:
    """Return a report as text."""
    return _job(report) if isinstance(report, JobReport) else _check(report)


def _job(report: JobReport) -> str:
    lines = [f"job {report.uid}  {_size(report.size)}  {report.path}"]
    if report.problem:
        lines.append(f"  cannot start: {report.problem}")
    elif report.goes_on_from:
        lines.append(f"  goes on from {report.goes_on_from}")
    else:
        lines.append("  starts at step 0")
    lines.append("  attempts")
    lines += _table(_attempt(found) for found in report.attempts)
    lines.append("  commits" if report.commits else "  no commits")
    lines += _table(_commit(found, report.goes_on_from) for found in report.commits)
    if report.leftovers:
        lines.append(f"  being written, or left by a killed writer: {', '.join(report.leftovers)}")
    lines.append(f"  ledger: {_ledger(report.ledger)}")
    return "\n".join(lines) + "\n"


def _check(report: LedgerReport) -> str:
    lines = [f"{report.job}: {_ledger(report)}"]  # the hashes: what equal histories share
    if report.commit:
        lines += [f"  sha256 of the state   {report.state_sha256}"]
        lines += [f"  hash of the ledger    {report.ledger_hash}"]
    return "\n".join(lines)


def _size(count: int) -> str:
    value = float(count)
    for unit in ("B", "kB", "MB", "GB"):
        if value < 1000:
            return f"{value:.0f} {unit}" if unit == "B" else f"{value:.1f} {unit}"
        value /= 1000
    return f"{value:.1f} TB"


def _attempt(report: AttemptReport) -> list[str]:
    origin = f"from {report.starts_from}" if report.starts_from else "from step 0"
    if not report.started:
        origin = "ended before it trained"
    if report.problem:
        origin = f"DAMAGED: {report.problem}"
    return [str(report.attempt), (report.time or "")[:19], report.pod_uid or "", origin]


def _commit(report: CommitReport, goes_on_from: str | None) -> list[str]:
    verdict = f"DAMAGED: {report.problem}" if report.problem else "verified"
    if not report.in_lineage:
        verdict += ", outside of the lineage"
    if report.id == goes_on_from:
        verdict += "  <- next start"
    manifest = report.manifest
    if manifest is None:
        return [report.id, _size(report.size), "", "", "", verdict]
    if manifest.results:
        verdict += f"; {', '.join(f'{k} {v:.4g}' for k, v in manifest.results.items())}"
    return [
        report.id,
        _size(report.size),
        f"epoch {manifest.epoch}",
        f"{manifest.samples:,} examples",
        f"{manifest.time:%Y-%m-%dT%H:%M:%S}",
        verdict,
    ]


def _ledger(report: LedgerReport) -> str:
    if report.problem:
        return f"WRONG: {report.problem}"
    if report.commit is None:
        return "nothing committed yet"
    steps = f"{report.steps:,} steps up to {report.commit}"
    counts = report.examples_per_epoch
    if counts is None:
        return f"{steps}, none lost or repeated; the pipeline does not name its examples"
    wanted, last = _wanted(report, counts), max(counts)
    whole = [epoch for epoch in counts if counts[epoch] == wanted[epoch]]
    rest = "" if counts[last] == wanted[last] else f", and {counts[last]:,} of epoch {last}"
    if whole:
        text = f"{len(whole)} epochs of {_range(counts[epoch] for epoch in whole)} examples"
    else:
        text, rest = f"{counts[last]:,} of {wanted[last]:,} examples of epoch {last}", ""
    if report.doubt:
        return f"{steps}, {text}{rest}; NOT PROVEN: {report.doubt}, which the builder may intend"
    return f"{steps}, {text}, {_verdict(report, whole)}{rest}"


def _wanted(report: LedgerReport, counts: dict[int, int]) -> dict[int, int]:
    """Return how many examples each epoch has once it is over: other batches drop others."""
    size, cutting = report.epoch_size, report.cutting
    if cutting:
        return {epoch: cutting.size - cutting.dropped(epoch) for epoch in counts}
    return dict.fromkeys(counts, size.examples - size.dropped if size else counts[0])


def _verdict(report: LedgerReport, whole: list[int]) -> str:
    size, cutting = report.epoch_size, report.cutting
    if size is None:
        return "each exactly once if epoch 0 had them all, which only the data can tell"
    dropped = [cutting.dropped(epoch) if cutting else size.dropped for epoch in whole]
    if any(dropped):
        return f"each exactly once but for {_range(dropped)} of {size.examples:,} that it drops"
    return "each exactly once"


def _range(numbers: Iterable[int]) -> str:
    known = sorted(numbers)
    return f"{known[0]:,}" if known[0] == known[-1] else f"{known[0]:,} to {known[-1]:,}"


def _table(rows: Iterable[Sequence[str]]) -> list[str]:
    known = [list(row) for row in rows]
    widths = [max(map(len, column)) for column in zip(*known, strict=True)]
    return ["    " + "  ".join(map(str.ljust, row, widths)).rstrip() for row in known]
