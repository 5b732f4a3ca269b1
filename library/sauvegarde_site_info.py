#!/usr/bin/python
# GNU General Public License v3.0+ (see LICENSE)
"""Describe a Django site: versions, models, migrations, and a masking policy to start from."""

DOCUMENTATION = r"""
module: sauvegarde_site_info
short_description: Describe a Django site
description:
  - Says what the site's models are and which of its migrations are not applied, and drafts a masking policy that
    classifies every field, for a person to correct. Changes nothing.
author: Sauvegarde
extends_documentation_fragment:
  - sauvegarde_engine
  - sauvegarde_site
options:
  policy:
    description: The masking policy that there is already.
    type: dict
    default: {}
  rows:
    description:
      - How many rows of each model are looked at for personal data, the first and the last ones. Their values do not
        leave the host. V(0) drafts from the names and types of the fields alone.
    type: int
    default: 1000
  preview:
    description:
      - How many values of each field are shown before and after their masks, under O(policy) and, for what it does not
        know, the draft. They are personal data and leave the host for the screen of the person who decides.
    type: int
    default: 0
  key:
    description: The masking's secret, hexadecimal, for the preview; without it a random one is used.
    type: str
    default: ""
attributes:
  check_mode:
    support: full
  diff_mode:
    support: none
"""

EXAMPLES = r"""
- name: Draft a masking policy
  sauvegarde_site_info:
    site: "{{ site }}"
  become: true
  register: described
"""

RETURN = r"""
description:
  description: C(django), C(python), C(database), C(models) with their fields, and C(unapplied) migrations.
  returned: always
  type: dict
starting_policy:
  description: A masking policy that knows every field of every model. What it cannot decide is C(ask), with the reason.
  returned: always
  type: dict
unclassified:
  description: The part of that policy which O(policy) says nothing about.
  returned: always
  type: dict
preview:
  description: Lines of text, with the values of each field before and after its mask.
  returned: with O(preview)
  type: list
  elements: str
"""

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.sauvegarde.django import masking_preview, policy_draft, site, site_arguments, starting_policy
from ansible.module_utils.sauvegarde.errors import SauvegardeError
from ansible.module_utils.sauvegarde.system import engine_files


def main() -> None:
    specification = dict(
        site_arguments.SITE,
        **engine_files.ARGUMENT,
        policy={"type": "dict", "default": {}},
        rows={"type": "int", "default": 1000},
        preview={"type": "int", "default": 0},
        key={"type": "str", "default": "", "no_log": True},
    )
    module = AnsibleModule(argument_spec=specification, supports_check_mode=True)
    engine_files.receive(module.params.pop("engine"))
    parameters, shown = module.params, {}
    try:
        where = site_arguments.described(parameters)
        described = site.describe(where, rows=parameters["rows"])
        policy = policy_draft.draft(described["models"], described.pop("samples"))
        if parameters["preview"]:
            merged = masking_preview.merged(parameters["policy"], policy)
            shown["preview"] = masking_preview.lines(
                masking_preview.read(where, merged, parameters["key"], parameters["preview"])
            )
    except SauvegardeError as error:
        module.fail_json(msg=str(error), **error.as_dict())
    unclassified = starting_policy.unclassified(policy, parameters["policy"])
    module.exit_json(changed=False, description=described, starting_policy=policy, unclassified=unclassified, **shown)


if __name__ == "__main__":
    main()
