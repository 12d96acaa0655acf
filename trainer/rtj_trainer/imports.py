"""What a builder imports although nobody compares its text, such as modules of the image.

Only the text is read. Modules that were loaded say less: others than the builder load some, too.
"""

import ast
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

_COMPARED = {"tensorflow", "keras", "numpy", "rtj_trainer"}
_DYNAMIC = {"importlib"}
"""Of the standard library, but it may import anything."""
_TEXTS = (".py", "")
"""Suffixes of modules and scripts; others are compiled."""


def not_compared(sources: Mapping[str, Path], beside: bool) -> list[str]:
    """Return the packages that some modules import and that are neither libraries nor compared.

    Args:
        sources: Files whose text is compared, by module name.
        beside: Whether all modules of their packages are among them.
    """
    known = _COMPARED | (sys.stdlib_module_names - _DYNAMIC)
    if beside:
        known = known | {name.partition(".")[0] for name in sources}
    texts = [path for path in sources.values() if path.suffix in _TEXTS]
    found = {name for path in texts for name in _imported(path)}
    return sorted(name for name in found - known if not (beside and name.startswith(".")))


def _imported(path: Path) -> Iterator[str]:
    """Yield the packages that a file imports anywhere; of its own, modules with a dot before."""
    for node in ast.walk(ast.parse(path.read_bytes())):
        if isinstance(node, ast.Import):
            yield from (alias.name.partition(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            names = [node.module] if node.module else [alias.name for alias in node.names]
            yield from ("." * bool(node.level) + name.partition(".")[0] for name in names)
