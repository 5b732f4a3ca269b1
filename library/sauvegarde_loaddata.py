#!/usr/bin/python
# GNU General Public License v3.0+ (see LICENSE)
"""Load fixtures into a Django site."""

DOCUMENTATION = r"""
module: sauvegarde_loaddata
short_description: Load fixtures into a Django site
description:
  - Leaves what C(manage.py loaddata) leaves, row for row, in one transaction. References that lead nowhere, texts that
    are too long, numbers out of range and NULs are all listed before anything is written.
  - Rows are written in bulk. Signal receivers are called for each object as by C(manage.py loaddata), in the order of
    the files, and find the same rows in the database. Where only Django's own method gives the same result (a receiver
    changes the object, the database converts a field), the module uses it and reports why.
author: Sauvegarde
extends_documentation_fragment:
  - sauvegarde_engine
  - sauvegarde_site
options:
  fixtures:
    description: Files to load together, compressed or not; the suffix of a name gives the format.
    type: list
    elements: path
    required: true
  mode:
    description:
      - C(merge) as C(loaddata); other rows stay. C(replace) leaves the fixtures' models with just the fixtures' rows.
      - Receivers of C(pre_delete) and C(post_delete) are called for each row that C(replace) removes, and for no other.
        Nothing cascades; if rows of other models would refer to a removed row, the load stops.
      - They are called inside the load's transaction, which may still be rolled back. What a receiver does outside the
        database (a file, a search index, a message) is then done although the row still exists, unless it waits for
        C(transaction.on_commit).
    type: str
    choices: [merge, replace]
    default: merge
  tell_deletions:
    description: Whether listeners hear of the rows that O(mode=replace) removes, and of how it changes lists.
    type: bool
    default: true
  policy:
    description:
      - What to do about C(too_long) (stop, cut, keep), C(out_of_range) (stop, empty, drop), C(nul) (stop, strip),
        C(null) (stop, drop), C(foreign_key) (stop, empty, drop), C(invalid) (stop, drop) and C(unknown) (stop, skip).
      - And about values that the database does not keep. C(precision) (round, stop) is a decimal number of more than 15
        digits in SQLite, C(nan) (empty, stop, drop) a NaN in SQLite, C(infinity) (stop, limit, empty,
        drop) an infinite date or one that only PostgreSQL can hold (C(limit) is the last or first date of Python's),
        C(surrogate) (stop, replace, drop) half a character, which PostgreSQL does not take inside JSON and no database
        in a text. Where a default is not C(stop), stock does the same; a migration stops there all the same.
      - An action is for all fields, or a dictionary names fields and their actions, and all others stop, as in
        C({"precision": {"shop.wallet.balance": "round"}}). The error of a load that stops prints the policy which
        accepts just what it found. C(foreign_key), C(unknown) and C(hidden) are not chosen by field.
      - And what to do with rows that O(mode=replace) would remove although the model's default manager hides them, so
        that no export holds them (softly deleted ones, say); C(hidden) (stop, drop).
      - What it does not name stops the load. Whatever it says, so do references that lead nowhere from objects which
        take Django's own way. C(foreign_key) covers natural keys that nothing has, a removed model's permission among
        them; C(drop) takes such members out of lists.
    type: dict
    default: {}
  exclude:
    description: Applications and models of the fixtures to leave out.
    type: list
    elements: str
    default: []
attributes:
  check_mode:
    support: full
    details: Everything is read and checked against the database; problems are returned.
  diff_mode:
    support: full
    details: The models whose rows or content change.
"""

EXAMPLES = r"""
- name: Load last night's data
  sauvegarde_loaddata:
    site: "{{ site }}"
    fixtures: [/srv/site/masked.json.zst]
    mode: replace
    policy:
      foreign_key: empty
  become: true
"""

RETURN = r"""
counts:
  description: Objects of each model.
  returned: when something was loaded
  type: dict
stock:
  description:
    - The models whose objects took Django's own way, each with C(objects) and C(why). Those whose removed rows took it,
      because a signal receiver is connected to it, are among them.
  returned: when something was loaded
  type: dict
listeners:
  description: The signals that were sent for each model's objects, by label.
  returned: when something was loaded
  type: dict
problems:
  description: What was wrong with the data, each with C(kind), C(model), C(pk), C(field), C(detail) and C(action).
  returned: when something was loaded
  type: list
  elements: dict
"""

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.sauvegarde.django import data_load, fixture_sets, site_arguments
from ansible.module_utils.sauvegarde.errors import SauvegardeError
from ansible.module_utils.sauvegarde.system import engine_files

_RETURNED = ("counts", "stock", "listeners", "problems")


def main() -> None:
    module = AnsibleModule(
        argument_spec=dict(
            site_arguments.SITE,
            **engine_files.ARGUMENT,
            fixtures={"type": "list", "elements": "path", "required": True},
            mode={"type": "str", "choices": list(data_load.MODES), "default": "merge"},
            tell_deletions={"type": "bool", "default": True},
            policy={"type": "dict", "default": {}},
            exclude={"type": "list", "elements": "str", "default": []},
        ),
        supports_check_mode=True,
    )
    engine_files.receive(module.params.pop("engine"))
    options = site_arguments.present(module.params, ("mode", "tell_deletions", "policy", "exclude"))
    try:
        result = fixture_sets.load_if_needed(
            site_arguments.described(module.params),
            module.params["fixtures"],
            dict(options, check_only=module.check_mode),
        )
    except SauvegardeError as error:
        module.fail_json(msg=str(error), **error.as_dict())
    sentences = "".join(each["sentence"] + "\n" for each in result["differences"])
    loaded = {key: value for key, value in (result["loaded"] or {}).items() if key in _RETURNED}
    module.exit_json(changed=result["changed"], diff={"prepared": sentences}, **loaded)


if __name__ == "__main__":
    main()
