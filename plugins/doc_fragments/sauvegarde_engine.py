# GNU General Public License v3.0+ (see LICENSE)
"""The option of the modules that the complete engine is sent along with."""


class ModuleDocFragment:
    DOCUMENTATION = r"""
options:
  engine:
    description:
      - The engine's files. Set by the action plugin of the same name; leave it out.
    type: str
    default: ""
"""
