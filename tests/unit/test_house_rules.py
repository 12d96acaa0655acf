"""Rules of the repository that no linter knows."""

import re
from pathlib import Path

import pytest

pytestmark = pytest.mark.unit

ROOT = Path(__file__).parents[2]
LOCKED = sorted((ROOT / "requirements").glob("*.txt"))


def test_the_operators_folder_does_not_hide_the_standard_librarys_operator() -> None:
    assert not (ROOT / "operator" / "__init__.py").exists()


@pytest.mark.parametrize("path", LOCKED, ids=lambda path: path.name)
def test_every_locked_requirement_has_hashes_and_names_no_address(path: Path) -> None:
    text = path.read_text()
    entries = re.findall(r"^[a-zA-Z0-9].*?(?=^[a-zA-Z0-9]|\Z)", text, re.MULTILINE | re.DOTALL)
    assert entries
    for entry in entries:
        assert "--hash=sha256:" in entry
    assert "://" not in text
    assert "--index-url" not in text


def test_the_images_install_what_the_tests_ran_with() -> None:
    tested = _versions(ROOT / "requirements" / "dev.txt")
    for part in ("operator", "trainer"):
        for name, versions in _versions(ROOT / "requirements" / f"{part}.txt").items():
            assert versions == tested[name], name


def _versions(path: Path) -> dict[str, set[str]]:
    found: dict[str, set[str]] = {}
    for name, version in re.findall(r"^([A-Za-z0-9._-]+)==([^ ;\\]+)", path.read_text(), re.M):
        found.setdefault(name, set()).add(version)
    return found
