# GNU General Public License v3.0+ (see LICENSE)
"""Read what the kinds of jobs declare (module_utils/sauvegarde/backup/kinds/), and check jobs by it.

The files are parsed, not imported: the controller may lack psycopg2.
"""

from __future__ import annotations

import ast
import functools
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

DOCUMENTATION = r"""
name: sauvegarde_kinds
short_description: Read what the kinds of jobs declare
description:
  - A kind is one file of the engine, which declares its options, the required ones, and packages.
  - C(sauvegarde_job_objections) returns what is wrong in a job's options, a list of sentences.
  - C(sauvegarde_kind_packages) returns the packages that jobs with a C(repository) need.
  - C(sauvegarde_kinds_with) returns the kinds that have an option.
options:
  _input:
    description: A job, jobs, or the name of an option.
    type: raw
    required: true
"""

EXAMPLES = r"""
- name: Show what is wrong
  ansible.builtin.debug:
    msg: "{{ {'name': 'a', 'kind': 'sqlite'} | sauvegarde_job_objections }}"
"""

RETURN = r"""
_value:
  description: Sentences, packages, or kinds.
  type: list
  elements: str
"""

FOLDER = Path(__file__).resolve().parents[2] / "module_utils" / "sauvegarde" / "backup" / "kinds"
# What git and restic need to reach a server; recommended packages are not installed.
_FOR_GIT = ("ca-certificates", "openssh-client")


@dataclass(frozen=True)
class Kind:
    """What a kind declares; several: {option that stands for one thing: option that chooses many, one archive each}."""

    options: tuple[str, ...]
    required: tuple[str, ...]
    paths: tuple[str, ...]
    packages: tuple[str, ...]
    several: Mapping[str, str]


@functools.cache
def declared() -> dict[str, Kind]:
    """Return every kind by its name."""
    return {path.stem: _kind(path) for path in sorted(FOLDER.glob("*.py")) if path.stem != "__init__"}


def _kind(path: Path) -> Kind:
    body = ast.parse(path.read_text(encoding="utf-8")).body
    assigned = [node for node in body if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name)]
    values = {ast.unparse(node.targets[0]): node.value for node in assigned}
    constants = {name: ast.literal_eval(values[name]) for name in ("PACKAGES", "SEVERAL") if name in values}
    (options,) = [node for node in body if isinstance(node, ast.ClassDef) and node.name == "Options"]
    fields = [node for node in options.body if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name)]
    names = {field.target.id: field for field in fields if isinstance(field.target, ast.Name)}
    return Kind(
        options=tuple(names),
        required=tuple(name for name, field in names.items() if field.value is None),
        paths=tuple(name for name, field in names.items() if ast.unparse(field.annotation) == "Path"),
        packages=constants["PACKAGES"],
        several=constants.get("SEVERAL", {}),
    )


def objections(job: Mapping[str, Any]) -> list[str]:
    """Return a sentence for each mistake in a job's options; an empty list for a valid job."""
    if job.get("kind") not in declared():
        return [f"There is no such kind. Use one of {', '.join(sorted(declared()))}."]
    kind = declared()[job["kind"]]
    return [*_missing(job, kind), *_wrong_choices(job, kind), *_relative(job, kind)]


def _missing(job: Mapping[str, Any], kind: Kind) -> list[str]:
    sentences = []
    for name in kind.required:
        many = kind.several.get(name)
        if many and bool(job.get(name)) == bool(job.get(many)):
            sentences.append(f'It needs either "{name}" or "{many}".')
        elif not many and not job.get(name):
            sentences.append(f'It needs "{name}". Add it.')
    return sentences


def _wrong_choices(job: Mapping[str, Any], kind: Kind) -> list[str]:
    """Return what is wrong with options that choose many things: databases and exclude."""
    all_choices = {many for other in declared().values() for many in other.several.values()}
    chosen = [name for name in sorted(all_choices) if job.get(name)]
    others = [name for name in chosen if name not in kind.several.values()]
    sentences = [f'"{name}" does not go with its kind. Remove it.' for name in others]
    sentences += [f'"{name}" has an empty name. Correct it.' for name in chosen if not all(job[name])]
    if job.get("exclude") and not [name for name in chosen if name not in others]:
        sentences.append('"exclude" leaves out some of what "databases" chooses. Add "databases", or remove it.')
    return sentences


def _relative(job: Mapping[str, Any], kind: Kind) -> list[str]:
    return [
        f'"{name}" is {job[name]}, which is no absolute path. Correct it.'
        for name in kind.paths
        if job.get(name) and not str(job[name]).startswith("/")
    ]


def packages(jobs: Iterable[Mapping[str, Any]]) -> list[str]:
    """Return the packages that the kinds of jobs with a repository need, and what these need to reach a server."""
    names = [name for job in jobs if job.get("repository") for name in declared()[job["kind"]].packages]
    return sorted({*names, *(_FOR_GIT if "git" in names else ())})


def kinds_with(option: str) -> list[str]:
    """Return the kinds that have an option."""
    return [name for name, kind in declared().items() if option in kind.options]


class FilterModule:
    """The filters of this file."""

    def filters(self) -> dict[str, Any]:
        """Return them by name."""
        return {
            "sauvegarde_job_objections": objections,
            "sauvegarde_kind_packages": packages,
            "sauvegarde_kinds_with": kinds_with,
        }
