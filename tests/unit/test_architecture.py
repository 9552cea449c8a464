"""The borders between the parts, read from the sources' own imports."""

from __future__ import annotations

import ast
import io
import re
import sys
import tokenize
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

import pytest

ROOT = Path(__file__).parents[2]
PACKAGES = ("config", "simulator", "worker")

KNOWS: Mapping[str, tuple[str, ...]] = {
    "worker.domain": (),
    "worker.kinetic": ("worker.domain",),
    "worker.ledger": ("worker.domain",),
    "worker.replay": ("worker.domain",),
    "worker.engine": ("worker.domain", "worker.kinetic", "worker.ledger"),
    "worker.tracing": ("worker.domain", "worker.engine", "worker.episodes"),
    "config": ("worker.domain",),
    "simulator": (),
}
"""Which of our packages a part may import besides itself. A part that is not here may import any."""

OWNERS: Mapping[str, tuple[str, ...]] = {
    "config.settings": ("config", "worker.runtime", "worker.celery_app", "worker.cli"),
    "config.schema": ("config",),
    "simulator": ("simulator",),
    "httpx": ("worker.kinetic",),
    "redis": ("worker.ledger",),
    "celery": (
        "worker.beat",
        "worker.celery_app",
        "worker.cli",
        "worker.consumer",
        "worker.heartbeat",
        "worker.tasks",
    ),
    "apprise": ("worker.alerting",),
    "prometheus_client": ("worker.serve",),
    "opentelemetry": ("worker.tracing",),
    "fastapi": ("simulator",),
    "starlette": ("simulator",),
    "uvicorn": ("simulator",),
}
"""Who alone may import a module; the simulator, for one, is started as a process of its own."""

STDLIB_ONLY = ("worker.domain",)


class Import(NamedTuple):
    """One import: who, where, and what, with the imported name as the last part."""

    importer: str
    line: int
    target: str


def within(module: str, package: str) -> bool:
    return module == package or module.startswith(f"{package}.")


def imports_of(source: str, importer: str, *, is_package: bool = False) -> Iterator[Import]:
    """Yield every import in a module's source, also those inside functions and by literal name."""
    for node in ast.walk(ast.parse(source)):
        match node:
            case ast.Import(names=names):
                for alias in names:
                    yield Import(importer, node.lineno, alias.name)
            case ast.ImportFrom(module=module, names=names, level=level):
                base = module or ""
                if level:
                    parents = importer.split(".")[: len(importer.split(".")) - level + is_package]
                    base = ".".join([*parents, *filter(None, [module])])
                for alias in names:
                    yield Import(importer, node.lineno, f"{base}.{alias.name}")
            case ast.Call(
                func=ast.Attribute(attr="import_module") | ast.Name(id="import_module" | "__import__"),
                args=[ast.Constant(value=str(name)), *_],
            ):
                yield Import(importer, node.lineno, name)


def violations(imports: Iterable[Import]) -> list[str]:
    """Return a line for each import that crosses a border."""
    found = []
    for importer, line, target in imports:
        top = target.partition(".")[0]
        ours = top in PACKAGES
        for part, known in KNOWS.items():
            if ours and within(importer, part) and not any(within(target, each) for each in (part, *known)):
                found.append(f"{importer}:{line}: {part} must not know {target}")
        for module, owners in OWNERS.items():
            if within(target, module) and not any(within(importer, owner) for owner in owners):
                found.append(f"{importer}:{line}: only {', '.join(owners)} may import {module}")
        foreign = not ours and top not in sys.stdlib_module_names
        if foreign and any(within(importer, part) for part in STDLIB_ONLY):
            found.append(f"{importer}:{line}: only the standard library, not {top}")
    return found


def ignores_without_code(source: str) -> list[int]:
    """Return the lines whose `type: ignore` does not say which error is ignored."""
    comments = (
        token
        for token in tokenize.generate_tokens(io.StringIO(source).readline)
        if token.type == tokenize.COMMENT
    )
    return [
        token.start[0] for token in comments if re.search(r"type:\s*ignore(?!\[[a-z, -]+\])", token.string)
    ]


def sources() -> Iterator[tuple[Path, str, bool]]:
    for package in PACKAGES:
        for path in sorted((ROOT / package).rglob("*.py")):
            parts = path.relative_to(ROOT).with_suffix("").parts
            is_package = parts[-1] == "__init__"
            yield path, ".".join(parts[:-1] if is_package else parts), is_package


def test_no_import_crosses_a_border() -> None:
    """The parts import only what their place allows."""
    imports = [
        each
        for path, name, is_package in sources()
        for each in imports_of(path.read_text(), name, is_package=is_package)
    ]
    assert len(imports) > 100, "the sources were not found"
    assert violations(imports) == []


@pytest.mark.parametrize("part", KNOWS)
def test_every_part_with_a_border_exists(part: str) -> None:
    """A renamed package does not take its border away with it."""
    assert (ROOT / part.replace(".", "/")).is_dir()


def test_every_ignored_type_error_is_named() -> None:
    """No `type: ignore` hides more than the error it was written for."""
    paths = [*(path for path, _, _ in sources()), *sorted((ROOT / "tests").rglob("*.py"))]
    found = [
        f"{path.relative_to(ROOT)}:{line}"
        for path in paths
        for line in ignores_without_code(path.read_text())
    ]
    assert found == []


@pytest.mark.parametrize(
    ("importer", "source", "complaint"),
    [
        ("worker.domain.policy", "import redis", "only the standard library"),
        ("worker.domain.policy", "from structlog import get_logger", "only the standard library"),
        ("worker.domain.policy", "from worker.ledger import Ledger", "worker.domain must not know"),
        ("worker.domain.policy", "from config.durations import parse", "worker.domain must not know"),
        ("worker.domain.policy", "from ..ledger import Ledger", "worker.domain must not know worker.ledger"),
        ("worker.domain.policy", "from worker import tasks", "worker.domain must not know worker.tasks"),
        ("worker.kinetic.client", "from worker.ledger.keys import Keys", "worker.kinetic must not know"),
        ("worker.ledger.ledger", "import worker.kinetic", "worker.ledger must not know worker.kinetic"),
        ("worker.engine.submit", "from worker import runtime", "worker.engine must not know worker.runtime"),
        ("worker.engine.submit", "from config.settings import Settings", "worker.engine must not know"),
        ("worker.engine.submit", "def f():\n    import httpx", "only worker.kinetic may import httpx"),
        ("worker.runtime", "from redis.asyncio import Redis", "only worker.ledger may import redis"),
        ("worker.tasks", "from config.settings import load_settings", "may import config.settings"),
        ("worker.tasks", "from config import settings", "may import config.settings"),
        ("worker.cli.up", "from simulator.app import create_app", "only simulator may import simulator"),
        ("worker.cli.up", "importlib.import_module('simulator')", "only simulator may import simulator"),
        ("simulator.app", "from worker.domain.executions import Status", "simulator must not know"),
        ("config.schema", "from worker.runtime import settings", "config must not know worker.runtime"),
    ],
)
def test_a_crossed_border_is_seen(importer: str, source: str, complaint: str) -> None:
    """The check can fail: each kind of border, crossed in each way an import can be written."""
    found = violations(imports_of(source, importer))
    assert [line for line in found if complaint in line], found


@pytest.mark.parametrize(
    ("importer", "source"),
    [
        ("worker.domain.policy", "import math\nfrom worker.domain.lineage import Lineage"),
        ("worker.domain.policy", "from .lineage import Lineage"),
        ("worker.engine.submit", "import structlog\nfrom worker.kinetic import NotFound"),
        ("worker.runtime", "from config.settings import Settings\nfrom worker.ledger import Ledger"),
        ("worker.tasks", "import redistribute, httpx_like"),
    ],
)
def test_a_lawful_import_passes(importer: str, source: str) -> None:
    """The check does not cry wolf, and does not take a prefix of a name for the name."""
    assert violations(imports_of(source, importer)) == []


def test_a_relative_import_of_a_package_is_resolved_from_the_package() -> None:
    """`from . import x` means the package itself in `__init__`, the parent elsewhere."""
    assert [each.target for each in imports_of("from . import b", "worker.a", is_package=True)] == [
        "worker.a.b"
    ]
    assert [each.target for each in imports_of("from . import b", "worker.a")] == ["worker.b"]


def test_a_bare_ignore_is_seen() -> None:
    """A bare `type: ignore` is found, one with a code is not, and a docstring is not a comment."""
    bare, coded, text = (
        "x = 1  # type: ignore",
        "x = 1  # type: ignore[misc]  # reason",
        '"""# type: ignore"""',
    )
    assert [ignores_without_code(each) for each in (bare, coded, text)] == [[1], [], []]
