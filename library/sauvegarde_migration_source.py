#!/usr/bin/python
# GNU General Public License v3.0+ (see LICENSE)
"""Dump a site's data for another site."""

DOCUMENTATION = r"""
module: sauvegarde_migration_source
short_description: Dump a site's data for another site, masked where that is required
description:
  - Dumps the site from one snapshot into an archive of its own, masked on this host unless the target is production.
  - Run it as root, so that the site's code can run as the site's own user.
author: Sauvegarde
extends_documentation_fragment:
  - sauvegarde_engine
  - sauvegarde_site
  - sauvegarde_migrate
options:
  state:
    description: V(described) only describes the source and what would stop it; V(dumped) writes the archive.
    type: str
    choices: [described, dumped]
    default: dumped
  masking:
    description: V(auto) masks unless O(target_environment=production).
    type: str
    choices: [auto, always, never]
    default: auto
  policy:
    description: The masking policy. A field that it does not know stops the migration.
    type: dict
    default: {}
  key:
    description: The masking's secret, hexadecimal, 16 bytes or more.
    type: str
    default: ""
  archive:
    description:
      - An archive's folder on this host, of the kind pg_dump, sqlite, dumpdata or fixtures, in place of the live site,
        whose own database need not be there. It may be in its plain form, as it comes out of a repository.
      - The first two must be of the site's own engine. A database is restored beside the live one on this host's server
        for it, and dropped again.
    type: path
    default: ""
  keeper:
    description: OS user that owns the database; V(postgres) without it, or the site's own user with SQLite.
    type: str
    default: ""
  server_directory:
    description: Private folder of the restores on that server.
    type: path
    default: /var/lib/postgresql/sauvegarde
  connection:
    description: That server, as in M(sauvegarde_migration).
    type: dict
    default: {}
    suboptions:
      host:
        description: Directory of the socket, or a host name.
        type: str
        default: /var/run/postgresql
      port:
        description: Port.
        type: int
        default: 5432
      user:
        description: Role to log in as; the OS user's own name without it.
        type: str
        default: ""
      passfile:
        description: A password file of mode 0600.
        type: path
        default: ""
      sslmode:
        description: As libpq has it.
        type: str
        default: ""
      sslrootcert:
        description: File with the certificates of authorities, or V(system) for the host's own store.
        type: str
        default: ""
      sslcert:
        description: File with the client's certificate.
        type: path
        default: ""
      sslkey:
        description: File with the key of O(connection.sslcert).
        type: path
        default: ""
  environment_of_host:
    description: This host's environment. What must be masked is opened in V(production) and V(repository) only.
    type: str
    default: ""
  target_environment:
    description: The target's environment, V(production) or another word.
    type: str
    default: ""
  target:
    description: Name of the target's host, for the report.
    type: str
    default: ""
  plan_mark:
    description: The mark of the plan that was confirmed. If the source is another one now, nothing is dumped.
    type: str
    default: ""
  decided:
    description: Who decided about the policy, for the report, in place of its own C(decided).
    type: dict
    default: {}
    suboptions:
      by:
        description: Name.
        type: str
        default: ""
      date:
        description: When.
        type: str
        default: ""
      note:
        description: A sentence.
        type: str
        default: ""
attributes:
  check_mode:
    support: full
    details: Describes the source, and dumps nothing.
  diff_mode:
    support: none
"""

EXAMPLES = r"""
- name: Dump the site for a developer, without anybody's personal data
  sauvegarde_migration_source:
    site: "{{ django_site }}"
    policy: "{{ migrate_policy }}"
    key: "{{ migrate_key }}"
  become: true
  register: outgoing
"""

RETURN = r"""
source:
  description: The site and its models in plain values, C(masked), and C(obstacles), each with C(what), C(why), C(fix).
  returned: with O(state=described) and in check mode
  type: dict
path:
  description: The archive's folder.
  returned: with O(state=dumped)
  type: str
id:
  description: The archive's id.
  returned: with O(state=dumped)
  type: str
masked:
  description: Whether the policy was applied.
  returned: with O(state=dumped)
  type: bool
report:
  description: What was masked, in Markdown, to be filed; without any value of the data. Empty where nothing was masked.
  returned: with O(state=dumped)
  type: str
fingerprint:
  description: Per model C(rows) and a C(hash) of what was written.
  returned: with O(state=dumped)
  type: dict
"""

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.sauvegarde.django import site_arguments as django
from ansible.module_utils.sauvegarde.errors import SauvegardeError
from ansible.module_utils.sauvegarde.migrate import migration_arguments, migration_source
from ansible.module_utils.sauvegarde.system import engine_files


def main() -> None:
    module = AnsibleModule(
        argument_spec=dict(
            migration_arguments.SOURCE,
            **engine_files.ARGUMENT,
            state={"type": "str", "choices": ["described", "dumped"], "default": "dumped"},
        ),
        supports_check_mode=True,
    )
    engine_files.receive(module.params.pop("engine"))
    parameters = module.params
    masked = migration_source.is_masked(parameters["masking"], parameters["target_environment"])
    about = migration_arguments.about(parameters)
    try:
        choice = (parameters["policy"], parameters["key"], migration_arguments.labels(parameters), masked)
        exclude, include = parameters["exclude"], parameters["include"]
        where = django.described(parameters)
        if module.check_mode or parameters["state"] == "described":
            seen = migration_source.look(where, *choice, about, exclude, include)
            module.exit_json(changed=parameters["state"] == "dumped", source=seen)
        options = migration_source.options(*choice, exclude, parameters["hidden"], include)
        migration_source.require_confirmed(about, masked, parameters["plan_mark"])
        result = migration_source.make(where, parameters["directory"], options, about)
    except SauvegardeError as error:
        module.fail_json(msg=str(error), **error.as_dict())
    manifest = result["manifest"]
    for sentence in result["warnings"]:
        module.warn(sentence)
    module.exit_json(
        changed=True,
        path=result["path"],
        id=manifest.id,
        masked=manifest.source["masked"],
        report=migration_source.report(manifest, parameters),
        fingerprint=manifest.fingerprint,
    )


if __name__ == "__main__":
    main()
