"""The arguments that the modules of Django data share, and plain values from them."""

from . import site

SITE = {
    "site": {
        "type": "dict",
        "required": True,
        "options": {
            "path": {"type": "path", "required": True},
            "python": {"type": "path", "required": True},
            "settings": {"type": "str", "required": True},
            "env_file": {"type": "path", "default": ""},
            "user": {"type": "str", "default": ""},
            "database": {"type": "str", "default": "default"},
        },
    },
}


def described(parameters):
    """The Site of a module's parameters."""
    return site.site(parameters["site"])


def given(parameters, names):
    """{name: value} of those parameters that were given."""
    return {name: parameters[name] for name in names if parameters[name] is not None}
