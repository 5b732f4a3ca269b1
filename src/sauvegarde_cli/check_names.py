"""Name the scenarios, the tests and the benchmarks of this checkout, by its folders."""

from sauvegarde_cli.command_failed import ROOT


def scenarios() -> list[str]:
    """Return the names of the Molecule scenarios."""
    return sorted(path.parent.name for path in (ROOT / "molecule").glob("[!_]*/tests"))


def names() -> list[str]:
    """Return every name that ``test`` accepts."""
    return ["lint", "unit", "engine", *scenarios(), "demo"]


def benchmarks() -> list[str]:
    """Return the names of the benchmarks."""
    return sorted(path.stem for path in (ROOT / "benchmarks").glob("[!_]*.py"))
