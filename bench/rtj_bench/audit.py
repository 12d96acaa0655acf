"""What the operator wrote, as the API server's audit log has it."""

import json
from collections import Counter
from datetime import UTC, datetime
from pathlib import Path

from rtj_bench.plane import ACCOUNT

_WRITES = ("create", "update", "patch", "delete", "deletecollection")


def now() -> str:
    """Return the time as the audit log spells it; spelt so, times sort by their text."""
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def writes(folder: Path, since: str) -> Counter[str]:
    """Count the operator's writes by verb and resource, those of leader election left out.

    Args:
        folder: Where the API server's logs are; a log that was rotated is read too.
        since: As `now()` gave it.
    """
    found: Counter[str] = Counter()
    for log in sorted(folder.glob("audit*.log")):
        with log.open() as lines:
            for line in lines:
                if ACCOUNT in line:
                    _count(json.loads(line), since, found)
    return found


def _count(event: dict[str, object], since: str, found: Counter[str]) -> None:
    if event["stage"] != "ResponseComplete" or event["verb"] not in _WRITES:
        return
    if str(event["requestReceivedTimestamp"]) < since:
        return
    what = event["objectRef"]
    assert isinstance(what, dict)  # noqa: S101
    if what.get("name") == "rtj-operator":
        return
    resource = "/".join(filter(None, (what["resource"], what.get("subresource"))))
    found[f"{event['verb']} {resource}"] += 1
