"""The engine's layout: packages import only what is below them, modules form no cycle, file names are unique."""

from __future__ import annotations

import ast
from collections import Counter
from pathlib import Path

import pytest

ENGINE = Path(__file__).resolve().parents[2] / "module_utils" / "sauvegarde"

# From the ground up: a module imports from its own floor and from those before it. The longest match counts.
FLOORS = (
    "errors",
    "system",
    "report",
    "archive",
    "postgres",
    "offsite",
    "config",
    "django",
    "catalog",
    "restore.dump",
    "targets",
    "restore",
    "backup",
    "migrate",
    "drill",
    "cli",
)

# What is still to be repaired. A line must go together with its reason: the tests fail when it is no longer true.
OPEN_IMPORTS: set[tuple[str, str]] = set()
OPEN_CYCLES: set[tuple[str, ...]] = set()


def module_name(path: Path) -> str:
    """Return the dotted name of an engine file inside the package; '' for the package itself."""
    parts = path.relative_to(ENGINE).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


PATHS = {module_name(path): path for path in sorted(ENGINE.rglob("*.py"))}


def imports_of(name: str) -> set[str]:
    """Return the engine's modules that a module imports anywhere in its file."""
    package = name.split(".") if PATHS[name].name == "__init__.py" else name.split(".")[:-1]
    package = [part for part in package if part]
    imported = set()
    for node in ast.walk(ast.parse(PATHS[name].read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.level:
            base = package[: len(package) - node.level + 1] + (node.module.split(".") if node.module else [])
            for alias in node.names:
                full = ".".join([*base, alias.name])
                imported.add(full if full in PATHS else ".".join(base))
    return imported


GRAPH = {name: imports_of(name) for name in PATHS}


def floor_of(name: str) -> int:
    """Return the number of a module's floor; the package itself (the version) is below all."""
    matches = [floor for floor in FLOORS if name == floor or name.startswith(floor + ".")]
    assert matches or not name, f"{name} is on no floor: add its package to FLOORS in {Path(__file__).name}"
    return FLOORS.index(max(matches, key=len)) if name else -1


def cycles() -> set[tuple[str, ...]]:
    """Return the sets of modules that import each other, directly or through others."""

    def reachable(start: str) -> set[str]:
        seen: set[str] = set()
        waiting = [start]
        while waiting:
            for name in GRAPH[waiting.pop()] - seen:
                seen.add(name)
                waiting.append(name)
        return seen

    reach = {name: reachable(name) for name in GRAPH}
    return {
        tuple(sorted(other for other in reach[name] if name in reach[other])) for name in GRAPH if name in reach[name]
    }


def test_imports_go_down():
    against = {
        (name, other) for name, imported in GRAPH.items() for other in imported if floor_of(other) > floor_of(name)
    }
    assert sorted(against - OPEN_IMPORTS) == [], "imports from a higher floor"
    assert sorted(OPEN_IMPORTS - against) == [], "repaired: remove these from OPEN_IMPORTS"


def test_no_import_cycle():
    assert sorted(cycles() - OPEN_CYCLES) == [], "modules that import each other"
    assert sorted(OPEN_CYCLES - cycles()) == [], "repaired: remove these from OPEN_CYCLES"


def test_file_names_are_unique():
    counts = Counter(path.name for path in PATHS.values() if path.name != "__init__.py")
    assert [name for name, count in counts.items() if count > 1] == []


@pytest.mark.parametrize("floor", FLOORS)
def test_every_floor_exists(floor):
    planned = {"cli", "drill"}
    assert floor in planned or floor in PATHS
