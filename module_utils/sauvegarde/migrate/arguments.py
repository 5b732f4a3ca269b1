"""The arguments that the migration's modules share, as plain values."""

from ..django import arguments as django
from ..restore import arguments as restore

TARGET = dict(
    django.SITE,
    directory={"type": "path", "default": "/var/lib/sauvegarde/migrations"},
    server_directory=restore.DIRECTORY,
    connection=restore.CONNECTION,
    keeper={"type": "str", "default": ""},
    labels={"type": "list", "elements": "str", "default": []},
    policy={"type": "dict", "default": {}},
    unknown={"type": "str", "choices": ["stop", "skip"], "default": "stop"},
    environment_of_host={"type": "str", "default": ""},
)
SOURCE = dict(
    django.SITE,
    policy={"type": "dict", "default": {}},
    key={"type": "str", "default": "", "no_log": True},
    labels={"type": "list", "elements": "str", "default": []},
    masking={"type": "str", "choices": ["auto", "always", "never"], "default": "auto"},
    target_environment={"type": "str", "default": ""},
    directory={"type": "path", "default": "/var/lib/sauvegarde/migrations"},
)


def spec(parameters):
    """The migration's specification among a module's parameters."""
    return {name: parameters[name] for name in TARGET}
