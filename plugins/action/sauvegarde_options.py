# GNU General Public License v3.0+ (see LICENSE)
"""Check the options of a playbook against playbooks/options/NAME.yml, before the playbook does anything."""

from __future__ import annotations

import difflib
import functools
import secrets
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml
from ansible.errors import AnsibleActionFail, AnsibleError
from ansible.module_utils.common.arg_spec import ArgumentSpecValidator
from ansible.plugins.action import ActionBase
from ansible.utils.vars import load_extra_vars

ROOT = Path(__file__).resolve().parents[2]
PAGE = "docs/reference/playbooks.md"
Options = Mapping[str, Mapping[str, Any]]


@functools.cache
def playbook_options(playbook: str) -> Options:
    """Return the options of a playbook by name, and the variables of the inventory that it uses besides."""
    text = (ROOT / "playbooks" / "options" / f"{playbook}.yml").read_text(encoding="utf-8")
    declared = yaml.safe_load(text)
    return {**declared["options"], **declared.get("inventory", {})}


@functools.cache
def all_names() -> frozenset[str]:
    """Return the names of all options of all playbooks, and of all variables of the roles."""
    names: set[str] = set()
    for path in (ROOT / "playbooks" / "options").glob("*.yml"):
        names.update(playbook_options(path.stem))
    for path in (ROOT / "roles").glob("*/meta/argument_specs.yml"):
        names.update(yaml.safe_load(path.read_text(encoding="utf-8"))["argument_specs"]["main"]["options"])
    return frozenset(names)


def unknown_names(names: Collection[str], options: Options) -> Iterator[str]:
    """Yield a sentence for each name that begins as an option of the playbook does, and is no option of any."""
    prefixes = tuple({name.partition("_")[0] + "_" for name in options})
    for name in sorted(set(names) - all_names()):
        if name.startswith(prefixes):
            similar = difflib.get_close_matches(name, options, 1, 0.8)
            yield f"There is no option {name}." + (f" Is it {similar[0]}?" if similar else "")


def wrong_values(values: Mapping[str, Any], options: Options) -> list[str]:
    """Return a sentence for each option that is missing, has the wrong type or is none of its choices."""
    missing = [
        f"{name} is required." for name, option in options.items() if option.get("required") and name not in values
    ]
    nested = [
        f"{name} is a {type(value).__name__}, not a {options[name]['type']}."
        for name, value in values.items()
        if options[name]["type"] in ("str", "path") and isinstance(value, (list, dict))
    ]
    converted = [sentence for name, value in values.items() for sentence in _wrong_types(name, value, options[name])]
    return missing + nested + converted


def _wrong_types(name: str, value: object, option: Mapping[str, Any]) -> list[str]:
    """Return what Ansible says about the value of an option; of a secret one not its words, which quote the value."""
    spec = {key: option[key] for key in ("type", "elements", "choices", "no_log") if key in option}
    messages = list(ArgumentSpecValidator({name: spec}).validate({name: value}).error_messages)
    return [f"{name} is no {option['type']}."] if messages and option.get("no_log") else messages


class ActionModule(ActionBase):
    TRANSFERS_FILES = False
    _requires_connection = False

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        """Check the options; fail with a sentence for each wrong one."""
        result: dict[str, Any] = super().run(tmp, task_vars)
        playbook = self._task.args.get("playbook", "")
        if set(self._task.args) != {"playbook"}:
            raise AnsibleActionFail("sauvegarde_options takes playbook.")
        options = playbook_options(playbook)
        extra = set(load_extra_vars(self._loader))
        wrong = [*unknown_names(extra, options), *wrong_values(self._values(options, task_vars or {}), options)]
        if wrong:
            raise AnsibleActionFail(
                "\n".join(
                    [f"The options of playbooks/{playbook}.yml are wrong.", *wrong, f"Fix: {PAGE} has all of them."]
                )
            )
        warnings = list(self._warnings(playbook, extra, task_vars or {}))
        return dict(result, changed=False, run=secrets.token_hex(6), warnings=warnings)

    def _values(self, options: Options, task_vars: Mapping[str, Any]) -> dict[str, Any]:
        """Return the values of the options that are set on this host."""
        values = {}
        for name in options:
            if task_vars.get(name) is None:
                continue
            try:
                values[name] = self._templar.template(task_vars[name])
            except AnsibleError:
                # A value of the inventory that only another host can have: the task that needs it says so.
                continue
        return values

    def _warnings(self, playbook: str, extra: Collection[str], task_vars: Mapping[str, Any]) -> Iterator[str]:
        """Yield a sentence for each option of another playbook, and each variable of the inventory that looks wrong."""
        options = playbook_options(playbook)
        prefixes = tuple({name.partition("_")[0] + "_" for name in options if not name.startswith("backup_")})
        for name in sorted(set(extra) & all_names() - set(options)):
            if name.startswith(prefixes):
                yield f"playbooks/{playbook}.yml does not use {name}."
        # Without the variables of the play, whose names are its own.
        host = task_vars.get("inventory_hostname", "")
        inventory = task_vars["hostvars"].raw_get(host) if "hostvars" in task_vars else {}
        for sentence in unknown_names(set(inventory) - set(extra), options):
            if "Is it" in sentence:
                yield f"{host}: {sentence}"
