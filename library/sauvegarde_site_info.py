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
"""

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.sauvegarde.django import arguments, drafting, masking, site
from ansible.module_utils.sauvegarde.errors import SauvegardeError


def main():
    specification = dict(arguments.SITE, policy={"type": "dict", "default": {}}, rows={"type": "int", "default": 1000})
    module = AnsibleModule(argument_spec=specification, supports_check_mode=True)
    try:
        described = site.describe(arguments.described(module.params), rows=module.params["rows"])
    except SauvegardeError as error:
        module.fail_json(msg=str(error), **error.as_dict())
    policy = drafting.draft(described["models"], described.pop("samples"))
    left = masking.unclassified(policy, module.params["policy"])
    module.exit_json(changed=False, description=described, starting_policy=policy, unclassified=left)


if __name__ == "__main__":
    main()
