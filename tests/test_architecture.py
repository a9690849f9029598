"""The rules of the code base that a reader relies on, checked on the source itself."""

import ast
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path

import pytest
from sb3_contrib import RecurrentPPO
from source_tree import ROOT, imported_names, package_modules, package_of
from stable_baselines3 import PPO, SAC
from stable_baselines3.common.base_class import BaseAlgorithm

# A module imports only from its own layer and those above it.
LAYERS = (
    ("types", "checks", "registry", "search", "images", "files", "sharing", "windows", "execution"),
    ("buffers",),
    ("losses",),
    ("nn",),
    ("auxiliary",),
    ("hook", "link", "known_batches"),
    ("weighted_losses",),
    ("tasks", "optimizer"),
    ("dynamics", "weights"),
    ("hooked",),
    ("extractor", "dynamics_extractor"),
    ("models", "presets", "recipes"),
    ("policies",),
    (
        "checkpoint",
        "evaluation",
        "frames",
        "pretrain",
        "resume",
        "representation",
        "probes",
        "saliency",
        "figures",
        "sheets",
        "envs",
        "dream_env",
        "dreams",
        "videos",
        "signals",
        "playing",
        "episodes",
        "latents",
        "zoo_runs",
        "saved_agents",
    ),
    ("callbacks",),
    ("zoo_configs",),
    ("tuning",),
    ("zoo", "report", "commands", "cli"),
)
DEPTH = {area: depth for depth, layer in enumerate(LAYERS) for area in layer}
MAX_FUNCTION_LINES = 60
MAX_MODULE_LINES = 300
MAX_EXAMPLE_LINES = 79

MODULES = package_modules()
# `sb3_latent/__init__.py` gathers the public names, so it may import from every layer.
LAYERED = [name for name in MODULES if name != "sb3_latent"]
SCRIPTS = {
    ".".join(path.relative_to(ROOT).with_suffix("").parts): path
    for folder in ("tests", "examples", "benchmarks", "docs")
    for path in sorted((ROOT / folder).rglob("*.py"))
}
EXAMPLES = sorted((ROOT / "examples").glob("*.py"))


def area_of(dotted: str) -> str:
    """``sb3_latent.nn.trunks`` lies in the area ``nn``; ``sb3_latent`` itself in none."""
    return ".".join(dotted.split(".")[1:2])


def layering_violations(module: str, source: str) -> list[str]:
    own = area_of(module)
    if own not in DEPTH:
        return [f"{module}: no layer holds {own!r}, add it to LAYERS"]
    ours = (name for name in imported_names(ast.parse(source), package_of(module)) if name.split(".")[0] == "sb3_latent")
    return [f"{module} imports {name}" for name in ours if DEPTH.get(area_of(name), len(LAYERS)) > DEPTH[own]]


def bare_imports(module: str, source: str) -> list[str]:
    names = imported_names(ast.parse(source), package_of(module))
    return [name for name in names if name.split(".")[0] in ("callbacks", "zoo_configs")]


def long_functions(source: str) -> list[str]:
    functions = (node for node in ast.walk(ast.parse(source)) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef))
    sizes = ((node.name, (node.end_lineno or node.lineno) - node.lineno + 1) for node in functions)
    return [f"{name} has {size} lines" for name, size in sizes if size > MAX_FUNCTION_LINES]


def binds_train(node: ast.AST) -> bool:
    if isinstance(node, ast.Attribute):
        return node.attr == "train" and isinstance(node.ctx, ast.Store)
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "setattr":
        return any(isinstance(argument, ast.Constant) and argument.value == "train" for argument in node.args)
    return False


def train_patches(source: str) -> list[str]:
    """The places that bind an attribute ``train``: by assignment or by ``setattr``."""
    return [ast.unparse(node) for node in ast.walk(ast.parse(source)) if binds_train(node)]


def subclasses(cls: type[object]) -> Iterator[type[object]]:
    for subclass in cls.__subclasses__():
        yield subclass
        yield from subclasses(subclass)


def test_the_source_tree_is_found() -> None:
    assert {"sb3_latent", "sb3_latent.types", "sb3_latent.callbacks", "sb3_latent.zoo_configs"} <= set(MODULES)
    assert "tests.test_architecture" in SCRIPTS


@pytest.mark.parametrize("module", LAYERED)
def test_modules_import_only_from_above(module: str) -> None:
    assert layering_violations(module, MODULES[module].read_text()) == []


@pytest.mark.parametrize(
    "module, source",
    [
        ("sb3_latent.losses.kl", "import sb3_latent.hook"),
        ("sb3_latent.losses.kl", "from sb3_latent.nn.trunks import NatureTrunk"),
        ("sb3_latent.losses.kl", "def late():\n    from sb3_latent import presets"),
        ("sb3_latent.losses.kl", "from ..callbacks import LatentMetricsCallback"),
        ("sb3_latent.losses.kl", "import sb3_latent"),
        ("sb3_latent.losses.kl", "from sb3_latent import latent_kwargs"),
        ("sb3_latent.losses", "from .. import extractor"),
        ("sb3_latent.unheard_of", ""),
    ],
)
def test_planted_layering_violations_are_caught(module: str, source: str) -> None:
    assert len(layering_violations(module, source)) == 1


@pytest.mark.parametrize(
    "source",
    ["import torch", "from sb3_latent import types", "from .mse import squared_error", "from sb3_latent.losses import mse"],
)
def test_imports_from_above_or_beside_are_allowed(source: str) -> None:
    assert layering_violations("sb3_latent.losses.kl", source) == []


@pytest.mark.parametrize("module", [*MODULES, *SCRIPTS])
def test_mapped_folders_are_never_imported_by_their_bare_name(module: str) -> None:
    path = MODULES.get(module) or SCRIPTS[module]
    assert bare_imports(module, path.read_text()) == []


@pytest.mark.parametrize(
    "source, caught",
    [
        ("import callbacks", ["callbacks"]),
        ("def late():\n    from zoo_configs import ppo", ["zoo_configs.ppo"]),
        ("from sb3_latent import callbacks", []),
        ("from ..callbacks import LatentMetricsCallback", []),
    ],
)
def test_planted_bare_imports_are_caught(source: str, caught: list[str]) -> None:
    assert bare_imports("sb3_latent.losses.kl", source) == caught


@pytest.mark.parametrize("module", MODULES)
def test_modules_and_functions_are_short(module: str) -> None:
    source = MODULES[module].read_text()
    assert long_functions(source) == []
    assert len(source.splitlines()) <= MAX_MODULE_LINES


def test_planted_long_function_is_caught() -> None:
    assert long_functions("def long():\n" + "    pass\n" * MAX_FUNCTION_LINES) == [f"long has {MAX_FUNCTION_LINES + 1} lines"]


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.name)
def test_examples_are_short(path: Path) -> None:
    assert len(path.read_text().splitlines()) <= MAX_EXAMPLE_LINES


@pytest.mark.parametrize("module", MODULES)
def test_no_train_method_is_patched(module: str) -> None:
    assert train_patches(MODULES[module].read_text()) == []


@pytest.mark.parametrize("source", ["PPO.train = ours", "model.train: object = ours", "setattr(model, 'train', ours)"])
def test_planted_train_patches_are_caught(source: str) -> None:
    assert len(train_patches(source)) == 1


def test_the_package_brings_no_algorithm_and_leaves_those_of_sb3_alone() -> None:
    for module in MODULES:
        import_module(module)
    algorithms = list(subclasses(BaseAlgorithm))
    assert {PPO, SAC, RecurrentPPO} <= set(algorithms)
    assert [cls for cls in algorithms if cls.__module__.startswith("sb3_latent")] == []
    train_methods = [vars(cls)["train"] for cls in algorithms if "train" in vars(cls)]
    assert [method for method in train_methods if method.__module__.startswith("sb3_latent")] == []
