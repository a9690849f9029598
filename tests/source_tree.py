"""Where the modules of the package lie in the repository, for the tests that read source code."""

import ast
from collections.abc import Iterator
from importlib.util import resolve_name
from pathlib import Path

ROOT = Path(__file__).parents[1]
FOLDERS = {
    "sb3_latent": ROOT / "sb3_latent",
    "sb3_latent.callbacks": ROOT / "callbacks",
    "sb3_latent.zoo_configs": ROOT / "zoo_configs",
}


def package_modules() -> dict[str, Path]:
    """Map the import name of every module of the package to its file."""
    modules = {}
    for package, folder in FOLDERS.items():
        for path in sorted(folder.rglob("*.py")):
            parts = path.relative_to(folder).with_suffix("").parts
            modules[".".join([package, *(part for part in parts if part != "__init__")])] = path
    return modules


def package_of(module: str) -> str:
    """The package that relative imports of a module start from."""
    is_package = package_modules().get(module, Path()).name == "__init__.py"
    return module if is_package else module.rpartition(".")[0]


def imported_names(tree: ast.AST, package: str = "") -> Iterator[str]:
    """
    Yield the absolute dotted name of everything imported anywhere in a piece of code.

    :param tree: the parsed code; imports inside functions count
    :param package: the package that relative imports start from
    """
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = resolve_name("." * node.level + (node.module or ""), package)
            yield from (f"{base}.{alias.name}" for alias in node.names)
