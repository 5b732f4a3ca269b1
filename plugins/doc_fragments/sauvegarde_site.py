# GNU General Public License v3.0+ (see LICENSE)
"""Document the options that the modules of Django data share."""


class ModuleDocFragment:
    DOCUMENTATION = r"""
options:
  site:
    description:
      - The Django site on this host. Its own virtual environment runs what needs Django, and nothing is installed or
        changed in it.
    type: dict
    required: true
    suboptions:
      path:
        description:
          - Folder with C(manage.py). It runs up to its command, so that settings are as on the site.
        type: path
        required: true
      python:
        description: The interpreter of the site's virtual environment.
        type: path
        required: true
      settings:
        description: The settings' module.
        type: str
        required: true
      env_file:
        description:
          - File with the site's environment, read as python-dotenv reads it (quotes, several lines, C(${NAME})).
          - Its C(PYTHONPATH) holds, too.
        type: path
        default: ""
      user:
        description: The site's own user. Its code runs as this user if the module runs as root.
        type: str
        default: ""
      database:
        description: Alias of the database in the settings.
        type: str
        default: default
"""
