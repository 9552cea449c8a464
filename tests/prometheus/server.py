"""A Prometheus on loopback with the rules of `deploy/`, and what it says."""

from __future__ import annotations

import contextlib
import json
import re
import shutil
import subprocess
import time
import urllib.parse
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from tests.support.daemons import ROOT, wait_until
from tests.support.redis_server import free_port

DEPLOY = ROOT / "deploy/prometheus"
SCRAPE_EVERY = "2s"
SHORT_FOR = "2s"
"""Instead of every rule's own `for`, so that a check takes minutes."""


@dataclass
class Prometheus:
    """A running Prometheus."""

    url: str
    process: subprocess.Popen[bytes]
    log: Path

    def ask(self, path: str, **parameters: str) -> Any:
        """Return the `data` of an answer of its API."""
        query = urllib.parse.urlencode(parameters)
        with urllib.request.urlopen(f"{self.url}/api/v1/{path}?{query}", timeout=10) as answer:
            return json.load(answer)["data"]

    def value(self, expression: str) -> float | None:
        """Return the first value of an expression; None when there is none."""
        found = self.ask("query", query=expression)["result"]
        return float(found[0]["value"][1]) if found else None

    def firing(self) -> set[str]:
        """Return the names of the alerts that fire."""
        return {
            each["labels"]["alertname"] for each in self.ask("alerts")["alerts"] if each["state"] == "firing"
        }

    def target(self) -> dict[str, Any]:
        """Return what it says of its one target; nothing before it has looked at its configuration."""
        targets: list[dict[str, Any]] = self.ask("targets")["activeTargets"]
        return targets[0] if targets else {}

    def complaints(self) -> list[str]:
        """Return the lines of its log that are no mere information."""
        lines = self.log.read_text(errors="replace").splitlines()
        return [line for line in lines if re.search(r"level=(warn|error)", line)]


def missing() -> list[str]:
    """Return the programs that are needed and not here."""
    return [name for name in ("prometheus", "promtool") if shutil.which(name) is None]


def configure(directory: Path, port: int) -> Path:
    """Write the configuration of `deploy/`, in a hurry and for that port of loopback; return the file."""
    config = yaml.safe_load((DEPLOY / "prometheus.yml").read_text())
    config["global"] |= {"scrape_interval": SCRAPE_EVERY, "evaluation_interval": SCRAPE_EVERY}
    config["global"]["scrape_timeout"] = SCRAPE_EVERY
    config["scrape_configs"][0]["scrape_timeout"] = SCRAPE_EVERY
    config["scrape_configs"][0]["static_configs"] = [{"targets": [f"127.0.0.1:{port}"]}]
    rules = yaml.safe_load((DEPLOY / "rules.yml").read_text())
    for rule in (rule for group in rules["groups"] for rule in group["rules"]):
        if "for" in rule:
            rule["for"] = SHORT_FOR
    (directory / "rules.yml").write_text(yaml.safe_dump(rules))
    path = directory / "prometheus.yml"
    path.write_text(yaml.safe_dump(config))
    return path


@contextlib.contextmanager
def prometheus(directory: Path, target_port: int) -> Iterator[Prometheus]:
    """Run it until the block ends; its data go with the directory."""
    config, port, log = configure(directory, target_port), free_port(), directory / "prometheus.log"
    command = ["prometheus", f"--config.file={config}", f"--web.listen-address=127.0.0.1:{port}"]
    command += [f"--storage.tsdb.path={directory / 'data'}", "--storage.tsdb.retention.time=1h"]
    with log.open("wb") as stream:
        process = subprocess.Popen(command, cwd=directory, stdout=stream, stderr=subprocess.STDOUT)
    running = Prometheus(f"http://127.0.0.1:{port}", process, log)
    try:
        wait_until(lambda: _is_ready(running), "Prometheus is ready", 30)
        yield running
    finally:
        process.terminate()
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _is_ready(running: Prometheus) -> bool:
    if running.process.poll() is not None:
        raise RuntimeError(running.log.read_text(errors="replace")[-2000:])
    time.sleep(0.1)
    with contextlib.suppress(OSError), urllib.request.urlopen(f"{running.url}/-/ready", timeout=2) as answer:
        return bool(answer.status == 200)
    return False
