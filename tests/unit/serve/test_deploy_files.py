"""The files under `deploy/` for Prometheus and Grafana say what `serve` shows and the runbook explains."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.unit.serve.snapshots import exposed, parsed, snapshot, taken
from worker.serve import page

ROOT = Path(__file__).resolve().parents[3]
PROMETHEUS = ROOT / "deploy/prometheus"
RULES = [
    rule
    for group in yaml.safe_load((PROMETHEUS / "rules.yml").read_text())["groups"]
    for rule in group["rules"]
]
DASHBOARD = json.loads((ROOT / "deploy/grafana/dashboard.json").read_text())
TESTS = yaml.safe_load((PROMETHEUS / "rules_test.yml").read_text())["tests"]
PROMTOOL = shutil.which("promtool")
needs_promtool = pytest.mark.skipif(PROMTOOL is None, reason="promtool is not here: see `make metrics-check`")


def sample_names() -> set[str]:
    return {s.name for family in parsed(exposed(snapshot())).values() for s in family.samples}


def labels_of(name: str) -> set[str]:
    families = parsed(exposed(snapshot())).values()
    return {label for each in families for s in each.samples if s.name == name for label in s.labels}


def expressions() -> list[str]:
    shown = [target["expr"] for panel in DASHBOARD["panels"] for target in panel.get("targets", ())]
    return [*(rule["expr"] for rule in RULES), *shown]


def test_every_metric_that_is_asked_for_exists() -> None:
    """With the labels by which it is chosen."""
    asked = [
        (name, chosen)
        for text in expressions()
        for name, chosen in re.findall(r"(kinetic_retry_\w+)(?:\{([^}]*)\})?", text)
    ]
    assert len(asked) > 40
    assert sorted({name for name, _ in asked} - sample_names()) == []
    for name, chosen in asked:
        unknown = set(re.findall(r"(\w+)\s*(?:=~|!~|!=|=)", chosen)) - labels_of(name) - {"job", "instance"}
        assert not unknown, f"{name} has no label {unknown}"


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule["alert"])
def test_every_alert_tells_a_person_what_to_do(rule: dict[str, Any]) -> None:
    """Words, a severity, and a section of its own in the runbook."""
    notes = rule["annotations"]
    assert rule["labels"]["severity"] in {"critical", "warning", "info"}
    assert len(notes["summary"]) > 10
    assert len(notes["description"]) > 40
    assert notes["runbook"] == f"docs/runbook.md#{rule['alert'].lower()}"
    assert f"### {rule['alert']}\n" in (ROOT / "docs/runbook.md").read_text()


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule["alert"])
def test_every_alert_is_seen_to_fire_and_to_resolve(rule: dict[str, Any]) -> None:
    """`rules_test.yml` has a course of events for each: quiet, firing, quiet."""
    courses = [
        [bool(at["exp_alerts"]) for at in test["alert_rule_test"] if at["alertname"] == rule["alert"]]
        for test in TESTS
    ]
    assert [False, True, False] in courses


def test_panels_are_told_apart() -> None:
    """Every panel has a title, a description and a place of its own."""
    panels = [panel for panel in DASHBOARD["panels"] if panel["type"] != "row"]
    assert all(panel["title"] and panel["description"] for panel in panels)
    taken_by: dict[tuple[int, int], str] = {}
    for panel in DASHBOARD["panels"]:
        place = panel["gridPos"]
        for x in range(place["x"], place["x"] + place["w"]):
            for y in range(place["y"], place["y"] + place["h"]):
                assert taken_by.setdefault((x, y), panel["title"]) == panel["title"]
                assert x < 24
    assert len({panel["id"] for panel in DASHBOARD["panels"]}) == len(DASHBOARD["panels"])


@needs_promtool
def test_promtool_finds_nothing_to_complain_about() -> None:
    """Neither in the exposition nor in the configuration and its rules."""
    shown = page.metrics(taken(snapshot()), "", most_workflows=50, version="1.0").body
    assert _promtool("check", "metrics", sent=shown) == ""
    assert "SUCCESS" in _promtool("check", "config", str(PROMETHEUS / "prometheus.yml"))


@needs_promtool
def test_the_rules_fire_and_resolve() -> None:
    """As `rules_test.yml` has it."""
    assert "SUCCESS" in _promtool("test", "rules", str(PROMETHEUS / "rules_test.yml"))


def _promtool(*words: str, sent: bytes = b"") -> str:
    assert PROMTOOL
    done = subprocess.run([PROMTOOL, *words], input=sent, capture_output=True, timeout=60, check=False)
    said = (done.stdout + done.stderr).decode()
    assert done.returncode == 0, said
    return said
