# GNU General Public License v3.0+ (see LICENSE)
"""Document the options that the restore's modules share."""


class ModuleDocFragment:
    TARGET = r"""
options:
  database:
    description: Name of the target database.
    type: str
    required: true
  connection:
    description: The target's server, as the user that the module runs as reaches it (a superuser of it).
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
  directory:
    description: Private folder where restores keep their state and unpack archives. Made where it is missing.
    type: path
    default: /var/lib/postgresql/sauvegarde
attributes:
  diff_mode:
    support: none
"""

    SOURCE = r"""
options:
  path:
    description:
      - An archive of Sauvegarde's on this host (its own folder, as stored or in its plain form), or anything that
        pg_dump or pg_dumpall wrote, as custom, directory, tar or plain SQL, packed with gzip, xz, zstd, bzip2, lz4, tar
        or zip or not, in UTF-16 or with a shell's lines around it, in one file or in the parts that C(split) writes.
    type: path
    required: true
  mode:
    description: Whether it will take the place of O(database), or become a database of its own beside others.
    type: str
    choices: [swap, beside]
    default: swap
  file_database:
    description:
      - Which database of a file that C(pg_dumpall) wrote; the name of O(database) by default. Roles come from the file,
        too, unless there are O(globals).
      - Or which of several dumps of C(pg_dump) in one file; C(#2) is the second where they have no names.
    type: str
    default: ""
  globals:
    description: A file of C(pg_dumpall), from which missing roles are created; packed or not, also of a whole cluster.
    type: path
    default: ""
  globals_roles:
    description: Which missing roles of O(globals) are created, those that the archive names or V(all).
    type: str
    choices: [named, all]
    default: named
  missing_roles:
    description: What to do about roles that neither the server nor O(globals) have; V(create) creates them, no login.
    type: str
    choices: [refuse, create]
    default: refuse
  partial:
    description:
      - A word of its own, C(replace with less), that lets a file take the live database's place which lacks tables or
        rows that this has, or an archive of a job that dumps only a part of its database.
    type: str
    default: ""
  owner:
    description: Owner of the database, in place of the source's.
    type: str
    default: ""
  encoding:
    description: Encoding, in place of the source's.
    type: str
    default: ""
  locale:
    description: Locale, in place of the source's.
    type: str
    default: ""
  jobs:
    description: Tables and indexes at a time; V(0) for one a core.
    type: int
    default: 0
  accept_losses:
    description:
      - Names of objects that may be missing afterwards where they cannot be restored, such as C(VIEW public.v),
        C(CONSTRAINT public.child child_parent_fkey) or C(TABLE DATA public.t) (the rows of a table).
      - A restore that fails because of such objects prints this list. A name that the dump does not hold is refused.
    type: list
    elements: str
    default: []
"""

    CONFIRMATION = r"""
options:
  confirm:
    description: What will be replaced, as C(DATABASE@HOST).
    type: str
    default: ""
  host:
    description: Name of this host in the inventory.
    type: str
    default: ""
  environment_of_host:
    description: V(production) asks for O(production) too.
    type: str
    default: ""
  production:
    description: Production's own word, C(overwrite production).
    type: str
    default: ""
  targets:
    description: Number of hosts of the play; each must be named in O(confirm).
    type: int
    default: 1
  plan_mark:
    description:
      - The mark of the plan that was confirmed, as M(sauvegarde_plan) and M(sauvegarde_migration_plan) return it. If
        the archive, the options, the target, its live database or what stops the restore is another one now, nothing
        is done.
    type: str
    default: ""
"""
