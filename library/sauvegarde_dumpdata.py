#!/usr/bin/python
# GNU General Public License v3.0+ (see LICENSE)
"""Dump a Django site's data to a fixture."""

DOCUMENTATION = r"""
module: sauvegarde_dumpdata
short_description: Dump a Django site's data to a fixture
description:
  - Writes what C(manage.py dumpdata) writes, byte for byte, from one snapshot. The file is parsed and counted first and
    takes its name at the end; a dump that fails leaves the old file.
  - References to permissions, content types and whatever else has natural keys are written by these.
author: Sauvegarde
extends_documentation_fragment:
  - sauvegarde_engine
  - sauvegarde_site
options:
  path:
    description:
      - The fixture, for example C(data.json), C(data.json.gz) or C(data.jsonl.zst); the name says what it becomes.
    type: path
    required: true
  labels:
    description: Applications and models (C(app) or C(app.Model)); all without it.
    type: list
    elements: str
  exclude:
    description: Applications and models to leave out; C(contenttypes) and C(auth.permission) without it.
    type: list
    elements: str
  indent:
    description: Spaces to indent with.
    type: int
  natural_primary:
    description: Leave out the keys of what has natural ones.
    type: bool
  policy:
    description: The masking policy. A field that it does not know stops the dump.
    type: dict
  key:
    description: The masking's secret, hexadecimal, 16 bytes or more.
    type: str
attributes:
  check_mode:
    support: full
    details: Dumps and checks everything, and writes nothing.
  diff_mode:
    support: none
"""

EXAMPLES = r"""
- name: Dump the site without anybody's personal data
  sauvegarde_dumpdata:
    site: "{{ site }}"
    path: /srv/site/masked.json.zst
    policy: "{{ masking_policy }}"
    key: "{{ masking_key }}"
  become: true
"""

RETURN = r"""
counts:
  description: Objects of each model.
  returned: always
  type: dict
stock:
  description: The models that went through Django's own serializer, each with the reason.
  returned: always
  type: dict
masked:
  description: Whether a policy was applied.
  returned: always
  type: bool
"""

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.sauvegarde.django import data_dump, site_arguments
from ansible.module_utils.sauvegarde.errors import SauvegardeError
from ansible.module_utils.sauvegarde.system import engine_files

_OPTIONS = ("labels", "exclude", "indent", "natural_primary", "policy", "key")
_RETURNED = ("counts", "stock", "masked")


def main() -> None:
    module = AnsibleModule(
        argument_spec=dict(
            site_arguments.SITE,
            **engine_files.ARGUMENT,
            path={"type": "path", "required": True},
            labels={"type": "list", "elements": "str"},
            exclude={"type": "list", "elements": "str"},
            indent={"type": "int"},
            natural_primary={"type": "bool"},
            policy={"type": "dict"},
            key={"type": "str", "no_log": True},
        ),
        supports_check_mode=True,
    )
    engine_files.receive(module.params.pop("engine"))
    try:
        result = data_dump.to_file(
            site_arguments.described(module.params),
            site_arguments.present(module.params, _OPTIONS),
            module.params["path"],
            write=not module.check_mode,
        )
    except SauvegardeError as error:
        module.fail_json(msg=str(error), **error.as_dict())
    module.exit_json(changed=result["changed"], **{key: result[key] for key in _RETURNED})


if __name__ == "__main__":
    main()
