"""Texts that name a file with a scheme, as `file:///data/x` or `gs://bucket/x`."""

import re

_FILE = "file://"
_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://")


def without_file_scheme(text: str) -> str:
    """Return the path of a local file that tf.data knows by a URL; any other text as it is."""
    if not text.startswith(_FILE):
        return text
    return "/" + text.removeprefix(_FILE).partition("/")[2]


def scheme(text: str) -> str | None:
    """Return the scheme of a URL, None for any other text."""
    found = _URL.match(text)
    return found.group().removesuffix("://") if found else None
