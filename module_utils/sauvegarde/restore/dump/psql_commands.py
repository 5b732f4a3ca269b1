"""psql's own commands in a plain dump: which are passed over, which change what follows, which are refused."""

import re

# What they do concerns psql's own screen or its guard against itself (\restrict).
PASSED_OVER = frozenset(
    (
        "restrict", "unrestrict", "echo", "qecho", "warn", "timing", "pset", "x", "a", "t", "f", "H", "errverbose",
        "unset", "conninfo",
    )
)  # fmt: skip
# Variables that steer psql alone. Others may stand in the SQL that follows (:name), which only psql could fill in.
_OWN_VARIABLES = frozenset(
    (
        "ON_ERROR_STOP", "ON_ERROR_ROLLBACK", "ECHO", "ECHO_HIDDEN", "QUIET", "VERBOSITY", "SHOW_CONTEXT", "HISTSIZE",
        "HISTCONTROL", "PROMPT1", "PROMPT2", "PROMPT3", "FETCH_COUNT", "COMP_KEYWORD_CASE", "HIDE_TABLEAM",
    )
)  # fmt: skip
_ARGUMENT = re.compile(r"""(?:"(?:[^"]|"")*"|'(?:[^'\\]|''|\\.)*'|[^\s"'])+""")

_DATABASE = re.compile(r"(?:^|\s)dbname\s*=\s*(?:'((?:[^'\\]|\\.)*)'|(\S+))")


def parse(line):
    """(name, [arguments]) of a line that begins with a backslash."""
    name, _, rest = line[1:].strip().partition(" ")
    return name, [_plain(each) for each in _ARGUMENT.findall(rest)]


def _plain(argument):
    """The argument without its quotes."""
    if len(argument) > 1 and argument[0] == argument[-1] and argument[0] in "\"'":
        return argument[1:-1].replace(argument[0] * 2, argument[0])
    return argument


def is_passed_over(name, arguments):
    """Whether leaving the command out changes nothing about what a server is sent."""
    return name in PASSED_OVER or (name == "set" and (not arguments or arguments[0] in _OWN_VARIABLES))


def database(arguments):
    """The database that `\\connect` names; '' where it names none."""
    named = [each for each in arguments if not each.startswith("-reuse-previous=")]
    if not named or named[0] == "-":
        return ""
    if "=" in named[0] or named[0].startswith(("postgresql://", "postgres://")):
        found = _DATABASE.search(named[0])
        return re.sub(r"\\(.)", r"\1", found.group(1) or found.group(2)) if found else named[0]
    return named[0]
