"""Write everything that follows from the models in `rtj_api`: the CRD, its copy in the chart, docs.

`python crds/generate.py` writes the files; with `--check` it writes nothing, prints what differs
and exits 1 if anything does.
"""

import argparse
import difflib
import sys
from pathlib import Path
from typing import Any

import yaml
from rtj_api import crd
from rtj_api.changes import SET_ONCE, takes
from rtj_api.names import KIND, SHORT_NAME
from rtj_api.schema import fields, messages

ROOT = Path(__file__).resolve().parent.parent
NOTICE = "Written by `make generate` from crds/rtj_api; do not edit."


def outputs() -> dict[Path, str]:
    """Return the text of each generated file."""
    manifest = f"# {NOTICE}\n" + yaml.safe_dump(crd.manifest(), sort_keys=False, width=100)
    return {
        ROOT / "crds" / f"{crd.NAME}.yaml": manifest,
        ROOT / "charts" / "rtj-operator" / "files" / f"{crd.NAME}.yaml": manifest,
        ROOT / "docs" / "api.md": _reference(),
    }


def _reference() -> str:
    schema = crd.job_schema()
    lines = [
        f"<!-- {NOTICE} -->",
        f"# {KIND}",
        "",
        schema["description"],
        f"In a cluster, `kubectl explain {SHORT_NAME}.spec` says the same.",
    ]
    for part in ("spec", "status"):
        tree = schema["properties"][part]
        lines += ["", f"## {part}", "", tree["description"], ""]
        changes = part == "spec"
        if changes:
            lines += ["*Change* says when a change on a live job takes effect.", ""]
        head = ["Field", "Type", "Bounds", *(["Change"] if changes else []), "What it is"]
        lines += [f"| {' | '.join(head)} |", "|---" * len(head) + "|"]
        lines += [_row(*field, changes=changes) for field in fields(tree, part)]
    lines += ["", "## Rules that the API server checks", ""]
    lines += ["A job that breaks one is refused with this message.", ""]
    lines += [f"- `{path or 'the whole job'}`: {message}." for path, message in messages(schema)]
    return "\n".join(lines) + "\n"


def _row(path: str, schema: dict[str, Any], required: bool, *, changes: bool) -> str:
    mark = " (required)" if required else ""
    when = [_change(path)] if changes else []
    cells = [f"`{path}`{mark}", _type(schema), _bounds(schema), *when, schema["description"]]
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


def _change(path: str) -> str:
    if path in SET_ONCE:
        return "field by field; set or taken out: refused"
    return takes(path) or "field by field"


def _type(schema: dict[str, Any]) -> str:
    kind: str = schema.get("type", "any")
    if kind == "array":
        return f"list of {_type(schema['items'])}"
    return "time" if schema.get("format") == "date-time" else kind


def _bounds(schema: dict[str, Any]) -> str:
    if "enum" in schema:
        return ", ".join(schema["enum"])
    low, high = schema.get("minimum"), schema.get("maximum")
    if low is not None or high is not None:
        return f"{'' if low is None else low} … {'' if high is None else high}".strip()
    return ""


def main() -> int:
    """Write or check; return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--check", action="store_true", help="only say what would change")
    check = parser.parse_args().check
    stale = 0
    for path, text in outputs().items():
        old = path.read_text() if path.exists() else ""
        if old == text:
            continue
        stale = 1
        name = str(path.relative_to(ROOT))
        if check:
            sys.stdout.writelines(
                difflib.unified_diff(
                    old.splitlines(True), text.splitlines(True), name, f"{name} (from the models)"
                )
            )
        else:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
            sys.stdout.write(f"wrote {name}\n")
    return stale if check else 0


if __name__ == "__main__":
    sys.exit(main())
