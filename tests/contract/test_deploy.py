"""The manifests and units under deploy/ agree with the program, its settings, the image and the guide.

Read as text, and handed to the tools that know better where these are installed.
"""

from __future__ import annotations

import json
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import yaml

from config.catalog import VARIABLES
from config.durations import parse_duration
from config.settings import load_settings
from worker.cli.app import COMMANDS, cli
from worker.cli.health import health

ROOT = Path(__file__).parents[2]
KUBERNETES, SYSTEMD = ROOT / "deploy" / "kubernetes", ROOT / "deploy" / "systemd"
ROLES = ("worker", "beat", "serve")
OPTIONS = ("redis", "monitoring", "autoscaling")
OLDEST, NEWEST = "1.29", "1.34"
"""Versions of Kubernetes that the manifests are for."""
LEASE = parse_duration(VARIABLES["SUBMIT_LEASE"].default)
UNITS = sorted(SYSTEMD.glob("*.service"))
Document = dict[str, Any]


def documents(*folders: str) -> list[Document]:
    """Return what is in the files of these folders, kustomizations aside."""
    files = [path for folder in folders for path in sorted((KUBERNETES / folder).glob("*.yaml"))]
    return [
        each
        for path in files
        if path.name != "kustomization.yaml"
        for each in yaml.safe_load_all(path.read_text())
    ]


def deployment(role: str) -> Document:
    (found,) = [
        each
        for each in documents("base")
        if each["kind"] == "Deployment" and each["metadata"]["name"] == f"kinetic-retry-{role}"
    ]
    return found


def pod(role: str) -> Document:
    spec: Document = deployment(role)["spec"]["template"]["spec"]
    return spec


def container(role: str) -> Document:
    (only,) = pod(role)["containers"]
    found: Document = only
    return found


def environment(role: str) -> dict[str, str]:
    """Return what the pod of a role has in its environment: of the base, the example and its own."""
    given: dict[str, str] = {}
    for folder in ("base", "example"):
        kustomization = yaml.safe_load((KUBERNETES / folder / "kustomization.yaml").read_text())
        for generator in kustomization["configMapGenerator"]:
            given |= dict(line.split("=", 1) for line in generator["literals"])
    return given | {each["name"]: each["value"] for each in container(role).get("env", [])}


def procfile() -> dict[str, list[str]]:
    lines = (ROOT / "Procfile").read_text().splitlines()
    return {role: shlex.split(command)[1:] for role, _, command in (line.partition(": ") for line in lines)}


def started(role: str) -> list[str]:
    """Return how a role is started everywhere."""
    return procfile().get(role, ["kinetic-retry", role])


def matches(selector: Mapping[str, str], labels: Mapping[str, str]) -> bool:
    return bool(selector) and selector.items() <= labels.items()


# --- Kubernetes ---


@pytest.mark.parametrize("version", [OLDEST, NEWEST])
def test_kubernetes_knows_every_field(version: str) -> None:
    """Nothing is misspelt or in the wrong place: the API server would drop it or refuse it."""
    validator = pytest.importorskip("kubernetes_validate", reason="the schemas of Kubernetes are not here")
    built_in = [
        each for each in documents("base", *OPTIONS) if "." not in _group(each) or "k8s.io" in _group(each)
    ]
    assert len(built_in) > 10
    for each in built_in:
        validator.validate(each, version, strict=True)


def _group(document: Document) -> str:
    return str(document["apiVersion"]).rpartition("/")[0]


def test_manifests_name_no_namespace() -> None:
    """Where it runs is said when it is applied."""
    assert [
        each["metadata"]["name"] for each in documents("base", *OPTIONS) if "namespace" in each["metadata"]
    ] == []


@pytest.mark.parametrize("folder", ["base", "example", *OPTIONS])
def test_kustomizations_name_files_that_are_there(folder: str) -> None:
    """And every file is named by one."""
    here = KUBERNETES / folder
    kustomization = yaml.safe_load((here / "kustomization.yaml").read_text())
    named = {*kustomization.get("resources", []), *kustomization.get("components", [])}
    assert [name for name in named if not (here / name).exists()] == []
    assert {path.name for path in here.glob("*.yaml")} - {"kustomization.yaml"} <= named


def test_kubectl_builds_the_example(tmp_path: Path) -> None:
    """With every option: what is merged, patched and renamed fits."""
    if not shutil.which("kubectl"):
        pytest.skip("kubectl is not installed")
    shutil.copytree(KUBERNETES, tmp_path / "kubernetes")
    example = tmp_path / "kubernetes" / "example" / "kustomization.yaml"
    example.write_text(re.sub(r"# (- \.\./)", r"\1", example.read_text()))
    done = subprocess.run(
        ["kubectl", "kustomize", str(example.parent)], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr
    built = {(each["kind"], each["metadata"]["name"]): each for each in yaml.safe_load_all(done.stdout)}
    worker = built["Deployment", "kinetic-retry-worker"]["spec"]
    assert "replicas" not in worker
    (settings,) = [name for kind, name in built if kind == "ConfigMap"]
    assert re.fullmatch(r"kinetic-retry-[a-z0-9]+", settings)
    assert worker["template"]["spec"]["containers"][0]["envFrom"] == [{"configMapRef": {"name": settings}}]
    assert set(built["ConfigMap", settings]["data"]) == {
        *("KINETIC_BASE_URL", "KINETIC_API_KEY_FILE", "REDIS_URL_FILE", "LOG_FORMAT")
    }


@pytest.mark.parametrize("role", ROLES)
def test_pods_start_what_the_procfile_starts(role: str) -> None:
    """The image's entrypoint and these words are the Procfile's command."""
    assert "command" not in container(role)
    assert ["kinetic-retry", *container(role)["args"]] == started(role)
    assert role in COMMANDS
    assert container(role)["image"] == "kinetic-retry-worker"


@pytest.mark.parametrize("role", ["worker", "beat"])
@pytest.mark.parametrize("probe", ["startupProbe", "livenessProbe"])
def test_probes_ask_what_the_program_answers(role: str, probe: str) -> None:
    """A probe whose command does not exist restarts a healthy pod for ever."""
    asked = container(role)[probe]
    program, command, *words = asked["exec"]["command"]
    assert program == "kinetic-retry"
    assert cli.get_command(None, command) is health  # type: ignore[arg-type]
    assert health.make_context(command, words).params["role"] == role
    assert asked["timeoutSeconds"] >= 5, "starting Python takes its time on a busy node"


def test_serve_is_asked_over_http() -> None:
    """Liveness is about the process alone: a Redis that is away must restart nothing."""
    page = (ROOT / "worker" / "serve" / "page.py").read_text()
    asked = {name: each["httpGet"] for name, each in container("serve").items() if name.endswith("Probe")}
    assert {name: each["path"] for name, each in asked.items()} == {
        "startupProbe": "/healthz",
        "livenessProbe": "/healthz",
        "readinessProbe": "/readyz",
    }
    assert all(each["path"] in page for each in asked.values())
    (port,) = container("serve")["ports"]
    assert {each["port"] for each in asked.values()} == {port["name"]}
    assert environment("serve")["SERVE_PORT"] == str(port["containerPort"]) == VARIABLES["SERVE_PORT"].default


@pytest.mark.parametrize("role", ROLES)
def test_pods_can_read_their_settings(role: str, tmp_path: Path) -> None:
    """Every variable is one of ours, and together they start the role."""
    given = environment(role)
    assert {name.removesuffix("_FILE") for name in given} - {*VARIABLES} == set()
    volumes = {each["name"]: each for each in pod(role)["volumes"]}
    (mount,) = [each for each in container(role)["volumeMounts"] if each["name"] == "secrets"]
    mounted = {f"{mount['mountPath']}/{item['path']}" for item in volumes["secrets"]["secret"]["items"]}
    secrets = {name: value for name, value in given.items() if name.endswith("_FILE") and value}
    assert set(secrets.values()) == mounted
    for name, text in (("api-key", "a-key"), ("redis-url", "redis://:word@redis:6379/0")):
        (tmp_path / name).write_text(f"{text}\n")
    here = {name: str(tmp_path / Path(value).name) for name, value in secrets.items()}
    settings = load_settings(given | here, env_file=None, require_api=role == "worker")
    assert settings.redis_url.get_secret_value() == "redis://:word@redis:6379/0"
    assert settings.kinetic.api_key.get_secret_value() == ("a-key" if role == "worker" else "")


def test_a_stopped_pod_may_finish_its_calls() -> None:
    """The grace is longer than a call may take, and so is that of the unit."""
    assert timedelta(seconds=pod("worker")["terminationGracePeriodSeconds"]) > LEASE
    assert (
        timedelta(seconds=int(unit(SYSTEMD / "kinetic-retry-worker@.service")["TimeoutStopSec"][0])) > LEASE
    )


@pytest.mark.parametrize("role", ROLES)
def test_pods_run_as_the_image_does(role: str) -> None:
    """Its user, and no right, token or writable file beyond what is needed."""
    user = re.search(r"^USER (\d+):(\d+)$", (ROOT / "Dockerfile").read_text(), re.MULTILINE)
    assert user
    spec = pod(role)
    assert spec["securityContext"] == {
        "runAsNonRoot": True,
        "runAsUser": int(user[1]),
        "runAsGroup": int(user[2]),
        "fsGroup": int(user[2]),
        "seccompProfile": {"type": "RuntimeDefault"},
    }
    assert container(role)["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    assert spec["automountServiceAccountToken"] is False
    # A Service named `serve` would set SERVE_PORT=tcp://…, which is no port.
    assert spec["enableServiceLinks"] is False
    assert spec["shareProcessNamespace"] is True
    assert [each["mountPath"] for each in container(role)["volumeMounts"] if not each.get("readOnly")] == [
        "/tmp"
    ]


def test_there_is_one_beat_at_a_time() -> None:
    """It is replaced, and nothing keeps its node from being drained."""
    spec = deployment("beat")["spec"]
    assert (spec["replicas"], spec["strategy"]) == (1, {"type": "Recreate"})
    budgets = [each for each in documents("base") if each["kind"] == "PodDisruptionBudget"]
    labels = spec["template"]["metadata"]["labels"]
    assert not any(matches(each["spec"]["selector"]["matchLabels"], labels) for each in budgets)


def test_selectors_meet_their_pods() -> None:
    """A label that differs by a letter is a service without a pod, or a policy for nobody."""
    pods = {role: deployment(role)["spec"]["template"]["metadata"]["labels"] for role in ROLES}
    found = {}
    for each in documents("base", "monitoring"):
        spec = each["spec"]
        selector = spec.get("selector") or spec.get("podSelector")
        selector = selector.get("matchLabels", selector)
        found[each["kind"], each["metadata"]["name"]] = {
            role for role, labels in pods.items() if matches(selector, labels)
        }
    assert found == {
        ("Deployment", "kinetic-retry-worker"): {"worker"},
        ("Deployment", "kinetic-retry-beat"): {"beat"},
        ("Deployment", "kinetic-retry-serve"): {"serve"},
        ("Service", "kinetic-retry-serve"): {"serve"},
        ("PodDisruptionBudget", "kinetic-retry-worker"): {"worker"},
        ("NetworkPolicy", "kinetic-retry"): set(ROLES),
        ("NetworkPolicy", "kinetic-retry-worker"): {"worker"},
        ("NetworkPolicy", "kinetic-retry-serve"): {"serve"},
        ("ServiceMonitor", "kinetic-retry"): {"serve"},
    }


def test_redis_keeps_what_it_was_told() -> None:
    """As in the compose file: on disk before a call leaves, nothing evicted, on a volume that stays."""
    (redis,) = [each for each in documents("redis") if each["kind"] == "StatefulSet"]
    (server,) = redis["spec"]["template"]["spec"]["containers"]
    compose = yaml.safe_load((ROOT / "docker-compose.yml").read_text())["services"]["redis"]["command"]
    assert server["args"] == compose.split()
    (claim,) = redis["spec"]["volumeClaimTemplates"]
    assert {"name": claim["metadata"]["name"], "mountPath": "/data"} in server["volumeMounts"]


def test_manifests_hold_no_secret() -> None:
    """Secrets are made at the command line, from files; an environment would be shown by every inspection."""
    for path in [*KUBERNETES.rglob("*.yaml"), *SYSTEMD.iterdir()]:
        text = path.read_text()
        assert "kind: Secret" not in text, path.name
        for name, variable in VARIABLES.items():
            if variable.secret:
                assert not re.search(rf"\b{name}\b(=|:| *\n *value:)", text), f"{path.name}: {name}"


# --- Autoscaling ---


def trigger() -> Document:
    (scaled,) = documents("autoscaling")
    assert scaled["spec"]["scaleTargetRef"]["name"] == deployment("worker")["metadata"]["name"]
    assert scaled["spec"]["minReplicaCount"] >= 1, "without a worker nothing becomes due"
    (only,) = scaled["spec"]["triggers"]
    metadata: Document = only["metadata"]
    return metadata


def test_the_backlog_is_a_metric_that_serve_has() -> None:
    """A query for a name that there is not is always empty, and KEDA would never scale."""
    source = "".join(path.read_text() for path in (ROOT / "worker" / "serve").glob("*.py"))
    names = set(re.findall(r"kinetic_retry_(\w+)", trigger()["query"]))
    assert names == {"due_lineages", "gate_closed", "halted_by_person"}
    assert [name for name in names if f'"{name}"' not in source] == []


def test_more_workers_are_wanted_only_while_calls_may_leave(tmp_path: Path) -> None:
    """A backlog behind a closed gate is not worked off faster by more workers."""
    if not shutil.which("promtool"):
        pytest.skip("promtool is not installed")

    def series(due: str, closed: str, halted: str) -> list[dict[str, str]]:
        figures = {
            'due_lineages{state="scheduled",pod="a"}': due,
            'due_lineages{state="scheduled",pod="b"}': due,
            'due_lineages{state="running",pod="a"}': "7",
            'due_lineages{state="unresolved",pod="a"}': "1000",
            'gate_closed{kind="down",pod="a"}': closed,
            'gate_closed{kind="paused",pod="a"}': "0",
            'halted_by_person{pod="a"}': halted,
        }
        return [{"series": f"kinetic_retry_{name}", "values": value} for name, value in figures.items()]

    cases = [
        ("500", "0", "0", [{"labels": "{}", "value": 507}]),
        ("500", "1", "0", []),
        ("500", "0", "1", []),
    ]
    tests = [
        {
            "interval": "15s",
            "input_series": series(due, closed, halted),
            "promql_expr_test": [{"expr": trigger()["query"], "eval_time": "0s", "exp_samples": wanted}],
        }
        for due, closed, halted, wanted in cases
    ]
    (tmp_path / "tests.yaml").write_text(json.dumps({"tests": tests}))
    done = subprocess.run(
        ["promtool", "test", "rules", "tests.yaml"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr


# --- systemd ---


def unit(path: Path) -> dict[str, list[str]]:
    """Return option → its values, in order."""
    options: dict[str, list[str]] = {}
    for line in path.read_text().splitlines():
        name, separator, value = line.partition("=")
        if separator and not line.startswith(("#", "[")):
            options.setdefault(name, []).append(value)
    return options


def role_of(path: Path) -> str:
    return path.name.removeprefix("kinetic-retry-").removesuffix(".service").rstrip("@")


def test_there_is_a_unit_for_every_role() -> None:
    """Any number of workers; beat and serve once."""
    assert [path.name for path in UNITS] == [
        "kinetic-retry-beat.service",
        "kinetic-retry-serve.service",
        "kinetic-retry-worker@.service",
    ]


@pytest.mark.parametrize("path", UNITS, ids=role_of)
def test_units_start_what_the_procfile_starts(path: Path) -> None:
    """And give up on settings that are refused, instead of trying them every five seconds."""
    options = unit(path)
    (command,) = options["ExecStart"]
    program, *words = command.split()
    assert [Path(program).name, *words] == started(role_of(path))
    assert options["Restart"] == ["always"]
    assert options["RestartPreventExitStatus"] == ["2"]


def test_the_main_process_of_a_worker_is_stopped_alone() -> None:
    """The children finish their calls, and whatever is left after the grace is killed with it."""
    assert unit(SYSTEMD / "kinetic-retry-worker@.service")["KillMode"] == ["mixed"]


@pytest.mark.parametrize("path", UNITS, ids=role_of)
def test_units_name_variables_that_exist(path: Path) -> None:
    """Secrets come as credentials of the unit; `TMPDIR` is where the sign of life is."""
    given = [pair for line in unit(path)["Environment"] for pair in line.split()]
    names = {pair.partition("=")[0].removesuffix("_FILE") for pair in given}
    assert names - {*VARIABLES, "TMPDIR"} == set()
    assert ("KINETIC_API_KEY" in names) == (role_of(path) == "worker")
    loaded = {line.partition(":")[0] for line in unit(path)["LoadCredential"]}
    assert {pair.partition("=%d/")[2] for pair in given if "=%d/" in pair} == loaded


def test_the_environment_file_is_read_without_a_complaint(tmp_path: Path) -> None:
    """Every line of the example, those that are commented out included."""
    lines = (SYSTEMD / "environment.example").read_text().splitlines()
    settings = dict(line.lstrip("#").split("=", 1) for line in lines if re.match(r"#?[A-Z_]+=", line))
    assert len(settings) > 3
    assert set(settings) - {*VARIABLES} == set()
    policies = tmp_path / "policies.toml"
    policies.touch()
    given = settings | {"RETRY_POLICY_FILE": str(policies), "KINETIC_API_KEY": "a-key"}
    load_settings(given, env_file=None)


@pytest.mark.parametrize("path", UNITS, ids=role_of)
def test_systemd_takes_the_units(path: Path, tmp_path: Path) -> None:
    """It knows every option, and what is left open is little (10 is everything)."""
    if not shutil.which("systemd-analyze"):
        pytest.skip("systemd is not installed")
    here = tmp_path / path.name.replace("@.", "@1.")
    program = str(Path(sys.executable).with_name("kinetic-retry"))
    here.write_text(path.read_text().replace("/opt/kinetic-retry/bin/kinetic-retry", program))
    for words in (["verify", "--man=no"], ["security", "--offline=true", "--threshold=15"]):
        done = subprocess.run(
            ["systemd-analyze", *words, str(here)], capture_output=True, text=True, timeout=60, check=False
        )
        assert done.returncode == 0, done.stdout + done.stderr
        assert "Unknown" not in done.stderr
        assert "ignoring" not in done.stderr


# --- The guide ---

GUIDE = (ROOT / "docs" / "deploy.md").read_text() if (ROOT / "docs" / "deploy.md").exists() else ""


def commands_in(text: str) -> Iterator[str]:
    yield from re.findall(r"\bkinetic-retry ([a-z][a-z-]*)(?= |`|$)", text, re.MULTILINE)


def test_the_guide_names_what_exists() -> None:
    """Files, variables and commands: a guide that sends people to what is not there is worse than none."""
    files = set(re.findall(r"`(deploy/[\w./@-]+)`", GUIDE))
    assert len(files) > 5
    assert [name for name in files if not (ROOT / name).exists()] == []
    used = set(commands_in(GUIDE))
    assert {"worker", "beat", "serve", "check", "status"} <= used
    assert used - {*COMMANDS} == set()
    ours = tuple({name.split("_")[0] + "_" for name in VARIABLES})
    named = {name for name in re.findall(r"`([A-Z]+(?:_[A-Z]+)+)", GUIDE) if name.startswith(ours)}
    assert {name.removesuffix("_FILE") for name in named} - {*VARIABLES} - {"RETRY_POLICY"} == set()


def test_the_guide_has_every_part() -> None:
    """What an operator looks for stands there by name."""
    headings = re.findall(r"^## (.+)$", GUIDE, re.MULTILINE)
    wanted = ("compose", "systemd", "Kubernetes", "Redis", "Sizing", "Upgrade", "Backup", "loss")
    assert [
        word for word in wanted if not any(word.casefold() in title.casefold() for title in headings)
    ] == []
