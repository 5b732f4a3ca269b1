# GNU General Public License v3.0+ (see LICENSE)
"""Document the options that the migration's modules share."""


class ModuleDocFragment:
    DOCUMENTATION = r"""
options:
  directory:
    description: Private folder where migrations keep their state. Created if it is missing.
    type: path
    default: /var/lib/sauvegarde/migrations
  labels:
    description: Applications and models (C(app) or C(app.Model)) to move; the whole site without it and O(sets).
    type: list
    elements: str
    default: []
  sets:
    description: Names of fixture sets to move.
    type: list
    elements: str
    default: []
  fixture_sets:
    description: The sets, as M(sauvegarde_fixtures) has them; the site's seven without it.
    type: list
    elements: dict
    default: []
  exclude:
    description:
      - Applications and models that stay out of the migration. Views and unmanaged models without a table stay out in
        any case; search indexes and other unmanaged models do unless O(labels) or O(include) names them.
    type: list
    elements: str
    default: []
  include:
    description: Search indexes and unmanaged models whose rows come along all the same.
    type: list
    elements: str
    default: []
  hidden:
    description: Whether rows that a model's default manager hides (soft deletion) travel like all others, or stay.
    type: str
    choices: [travel, stay]
    default: travel
"""

    TARGET = r"""
options:
  server_directory:
    description: Private folder of the restores on the target's server, which a migration's side database is among.
    type: path
    default: /var/lib/postgresql/sauvegarde
  connection:
    description: The target's server, as O(keeper) reaches it (a superuser of it). Not used with SQLite.
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
  keeper:
    description: OS user that owns the target's database; V(postgres) without it, or the site's own user with SQLite.
    type: str
    default: ""
  policy:
    description:
      - What to do about values that the target does not take, as in M(sauvegarde_loaddata); what it does not name stops
        the migration. Objects that it changes are listed, and all others proven.
    type: dict
    default: {}
  unknown:
    description: What to do about models and fields that the target's code does not know.
    type: str
    choices: [stop, skip]
    default: stop
  environment_of_host:
    description: The target's environment; V(production) asks for O(production) too.
    type: str
    default: ""
"""
