"""What the operator wrote, as the API server's audit log has it."""

import json
from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from rtj_bench.plane import ACCOUNT, OPERATOR

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
    for event in _events(folder):
        if event["verb"] not in _WRITES or event["requestReceivedTimestamp"] < since:
            continue
        what = event["objectRef"]
        if what.get("name") != OPERATOR:
            resource = "/".join(filter(None, (what["resource"], what.get("subresource"))))
            found[f"{event['verb']} {resource}"] += 1
    return found


def lists_without_limit(folder: Path) -> set[str]:
    """Return the lists that the operator asked for in one piece."""
    return {
        event["requestURI"]
        for event in _events(folder)
        if event["verb"] == "list" and "limit=" not in event["requestURI"]
    }


def _events(folder: Path) -> Iterator[dict[str, Any]]:
    """Yield what the log has of the operator's requests."""
    for log in sorted(folder.glob("audit*.log")):
        with log.open() as lines:
            for line in lines:
                if ACCOUNT in line and '"stage":"ResponseComplete"' in line:
                    yield json.loads(line)
