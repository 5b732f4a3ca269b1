# GNU General Public License v3.0+ (see LICENSE)
"""Document the option of the modules that get the complete engine."""


class ModuleDocFragment:
    DOCUMENTATION = r"""
options:
  engine:
    description:
      - The engine's files. Set by the action plugin of the same name; leave it out.
    type: str
    default: ""
"""
