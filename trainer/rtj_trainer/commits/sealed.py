"""JSON that knows when it was changed: a flipped bit in a number still parses."""

import hashlib
import json
from collections.abc import Mapping
from typing import Any

_SEAL = "sha256"


def seal(fields: Mapping[str, Any]) -> bytes:
    """Return the fields as a line of JSON, with a digest of them under `sha256`."""
    return (json.dumps({**fields, _SEAL: _digest(fields)}) + "\n").encode()


def unseal(content: bytes) -> dict[str, Any]:
    """Return the fields that were sealed.

    Raises:
        ValueError: it is not JSON, or not what was sealed.
    """
    fields = json.loads(content)
    if not isinstance(fields, dict) or fields.pop(_SEAL, None) != _digest(fields):
        raise ValueError("its content does not have its sha256")
    return fields


def _digest(fields: Mapping[str, Any]) -> str:
    canonical = json.dumps(fields, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(canonical.encode()).hexdigest()
