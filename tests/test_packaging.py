"""The sdist and the wheel built from it: what a user gets who never sees the repository."""

import ast
import re
import shutil
import subprocess
import sys
import tarfile
import zipfile
from collections.abc import Iterable
from email import message_from_bytes
from email.message import Message
from functools import cache
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from source_tree import ROOT, imported_names, package_modules, package_of

import sb3_latent

MODULES = package_modules()

# Packages and modules that are imported where their extra is installed, and nowhere else.
EXTRAS = {
    "sb3_latent.envs.atari_screen": {"atari"},
    "sb3_latent.probes": {"inspect"},
    "sb3_latent.report": {"inspect", "report"},
    "sb3_latent.tuning": {"tune"},
    "sb3_latent.zoo": {"tune", "zoo"},
}
INSTALLED_BY_CI = ["", "atari", "box2d", "dmc", "video", "inspect", "report", "tune", "zoo", "postgres", "dev"]


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the sdist and, built from that sdist, the wheel."""
    folder = tmp_path_factory.mktemp("packaging")
    ignored = [line.rstrip("/") for line in (ROOT / ".gitignore").read_text().splitlines() if not line.startswith("#")]
    # setuptools writes into the tree that it builds from: the workers of pytest-xdist need one each.
    source = shutil.copytree(ROOT, folder / "source", ignore=shutil.ignore_patterns(".git", *ignored))
    command = [sys.executable, "-m", "build", "--no-isolation", "--outdir", str(folder / "dist"), str(source)]
    result = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    assert result.returncode == 0, result.stdout
    return folder / "dist"


@pytest.fixture(scope="module")
def wheel(built: Path) -> Iterable[zipfile.ZipFile]:
    (path,) = built.glob("*.whl")
    with zipfile.ZipFile(path) as archive:
        yield archive


@pytest.fixture(scope="module")
def metadata(wheel: zipfile.ZipFile) -> Message:
    (name,) = (name for name in wheel.namelist() if name.endswith(".dist-info/METADATA"))
    return message_from_bytes(wheel.read(name))


def requirements(metadata: Message, extras: Iterable[str]) -> set[str]:
    """Names of the distributions that ``sb3_latent[extras]`` requires by itself."""
    parsed = [Requirement(text) for text in metadata.get_all("Requires-Dist", [])]
    chosen = (req for req in parsed if req.marker is None or any(req.marker.evaluate({"extra": extra}) for extra in extras))
    return {canonicalize_name(req.name) for req in chosen}


def third_party(names: Iterable[str]) -> set[str]:
    """Top-level modules among imported names that neither Python nor this package brings."""
    return {name.split(".")[0] for name in names} - sys.stdlib_module_names - {"sb3_latent"}


distributions = cache(packages_distributions)


def undeclared(modules: set[str], declared: set[str]) -> set[str]:
    return {name for name in modules if declared.isdisjoint(map(canonicalize_name, distributions().get(name, [])))}


def test_wheel_holds_every_module_under_its_import_name(wheel: zipfile.ZipFile) -> None:
    expected = {
        name.replace(".", "/") + ("/__init__.py" if path.name == "__init__.py" else ".py") for name, path in MODULES.items()
    }
    assert {"sb3_latent/__init__.py", "sb3_latent/callbacks/__init__.py", "sb3_latent/zoo_configs/__init__.py"} <= expected
    assert {name for name in wheel.namelist() if name.endswith(".py")} == expected
    assert "sb3_latent/py.typed" in wheel.namelist()


def test_wheel_works_without_the_repository(wheel: zipfile.ZipFile, tmp_path: Path) -> None:
    wheel.extractall(tmp_path)
    code = (
        "import sys; sys.path.insert(0, sys.argv[1])\n"
        "import sb3_latent.callbacks, sb3_latent.zoo_configs\n"
        "print(sb3_latent.__file__, sb3_latent.callbacks.__file__, sb3_latent.zoo_configs.__file__)"
    )
    command = [sys.executable, "-I", "-c", code, str(tmp_path)]
    printed = subprocess.run(command, check=True, capture_output=True, text=True, cwd=tmp_path).stdout.split()
    assert [Path(path).is_relative_to(tmp_path) for path in printed] == [True] * 3


def test_version_is_that_of_the_metadata(metadata: Message) -> None:
    assert sb3_latent.__version__ == metadata["Version"]


def test_sdist_can_be_tested(built: Path) -> None:
    (path,) = built.glob("*.tar.gz")
    with tarfile.open(path) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    assert {"Makefile", "constraints.txt", "LICENSE", "CHANGELOG.md", ".ci/run", "tests/test_packaging.py"} <= names


def test_every_import_is_declared(metadata: Message) -> None:
    users_extras = set(metadata.get_all("Provides-Extra", [])) - {"dev", "docs"}
    all_extras = requirements(metadata, ["", *users_extras])
    for module, path in MODULES.items():
        tree = ast.parse(path.read_text())
        own = EXTRAS.get(module) or EXTRAS.get(".".join(module.split(".")[:2]), set())
        core = requirements(metadata, ["", *own])
        at_import = ast.Module([node for node in tree.body if isinstance(node, ast.Import | ast.ImportFrom)], [])
        assert undeclared(third_party(imported_names(at_import, package_of(module))), core) == set(), module
        assert undeclared(third_party(imported_names(tree, package_of(module))), all_extras) == set(), module


def test_undeclared_imports_are_caught() -> None:
    names = imported_names(ast.parse("import os\nimport torch\nfrom pytest import raises\nimport no_such_module"))
    assert undeclared(third_party(names), {"torch"}) == {"pytest", "no_such_module"}


def test_constraints_pin_everything_that_ci_installs(metadata: Message) -> None:
    lines = [line for line in (ROOT / "constraints.txt").read_text().splitlines() if not line.startswith("#")]
    pins = [Requirement(line) for line in lines]
    exact = {canonicalize_name(pin.name) for pin in pins if re.fullmatch(r"==[^+*]+", str(pin.specifier))}
    assert {pin.name for pin in pins if canonicalize_name(pin.name) not in exact} == set()
    assert requirements(metadata, INSTALLED_BY_CI) - {"sb3-latent"} <= exact
