"""The pages lead where they say, and name what there is."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from rtj_api.names import LABEL_JOB, Reason
from rtj_operator import metrics

pytestmark = pytest.mark.unit

ROOT = Path(__file__).parents[2]
PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/*.md"), *ROOT.glob("examples/*/README.md")])
OPERATOR = (ROOT / "docs" / "operator.md").read_text()
TROUBLES = (ROOT / "docs" / "troubleshooting.md").read_text()


def without_code(page: Path) -> str:
    return re.sub(r"^```.*?^```", "", page.read_text(), flags=re.DOTALL | re.MULTILINE)


def anchors(page: Path) -> set[str]:
    """Return what GitHub makes of the headings."""
    headings = re.findall(r"^#+ (.*)$", without_code(page), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def links() -> Iterator[Any]:
    for page in PAGES:
        for link in re.findall(r"\]\(([^)\s]+)\)", without_code(page)):
            if "://" not in link:
                yield pytest.param(page, link, id=f"{page.relative_to(ROOT)}:{link}")


@pytest.mark.parametrize(("page", "link"), list(links()))
def test_a_link_leads_to_a_file_and_its_heading(page: Path, link: str) -> None:
    path, _, anchor = link.partition("#")
    target = (page.parent / path).resolve() if path else page
    assert target.exists()
    if anchor:
        assert anchor in anchors(target)


def test_every_reason_is_told_among_the_troubles() -> None:
    assert [reason for reason in Reason if not re.search(rf"\b{reason}\b", TROUBLES)] == []


def test_the_alerts_ask_for_metrics_that_there_are() -> None:
    shown = next(y for y in OPERATOR.split("```yaml\n") if "PrometheusRule" in y).split("```")[0]
    (group,) = yaml.safe_load(shown)["spec"]["groups"]
    asked = {name for rule in group["rules"] for name in re.findall(r"rtj_\w+", rule["expr"])}
    there = {family.name for family in metrics.REGISTRY.collect()}
    assert asked
    assert asked <= there


def test_the_network_policy_chooses_the_pods_of_jobs() -> None:
    guide = (ROOT / "docs" / "guide.md").read_text()
    shown = next(y for y in guide.split("```yaml\n") if "NetworkPolicy" in y).split("```")[0]
    (chosen,) = yaml.safe_load(shown)["spec"]["podSelector"]["matchExpressions"]
    assert chosen == {"key": LABEL_JOB, "operator": "Exists"}
