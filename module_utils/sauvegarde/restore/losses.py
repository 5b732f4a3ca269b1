"""Collect the objects that the target cannot restore (losses), and stop the restore unless each is accepted by name.

A load continues after an object fails, so that one run finds all of them, and the objects that depend on them. At the
end the run fails with the complete list and with the setting that accepts exactly these objects, unless each is
accepted already. An accepted object that does not fail is restored.

A loss is named after its entry in the dump's table of contents: `VIEW public.v`, `CONSTRAINT public.child child_fkey`,
`TABLE DATA public.t` (the rows of a table), `EXTENSION pg_cron`.
"""

import difflib
import io
import json
import re
from pathlib import Path

from ..errors import SauvegardeError
from ..postgres import postgres_server
from ..system import process
from .dump import dump_file as sources
from .dump.contents import bare_names, flat
from .dump.lexer import IDENTIFIER, unquoted
from .dump.sql_script import HEADER, Entry

SETTING = "restore_accept_losses"

_CONSTRAINTS = ("FK CONSTRAINT", "CHECK CONSTRAINT")
_ABOUT = ("ACL", "COMMENT", "SECURITY LABEL")
# Kinds whose name other definitions can mention.
_NAMED = (
    "AGGREGATE", "COLLATION", "CONVERSION", "DOMAIN", "FOREIGN TABLE", "FUNCTION", "MATERIALIZED VIEW",
    "OPERATOR CLASS", "OPERATOR FAMILY", "PROCEDURE", "SEQUENCE", "SHELL TYPE", "TABLE", "TEXT SEARCH CONFIGURATION",
    "TEXT SEARCH DICTIONARY", "TEXT SEARCH PARSER", "TEXT SEARCH TEMPLATE", "TYPE", "VIEW",
)  # fmt: skip
DEFINING = ("TABLE", "FOREIGN TABLE")
# Errors that end a load: they do not come from the object.
_STOPS = re.compile(
    r"^(?:.*: )?(?:FATAL|PANIC):  |^(?:.*: )?(?:server closed the connection|no connection to the server)"
    r"|ERROR:  (?:out of (?:shared )?memory|could not extend file|could not write|.*No space left on device"
    r"|canceling statement due to user request|.* in a read-only transaction)",
    re.MULTILINE,
)
_TOC_ENTRY = re.compile(rb"-- TOC entry (\d+) \(class ")
_FROM_ENTRY = re.compile(r"from TOC entry (\d+);")
_KEPT = 16 * 1024 * 1024  # bytes of pg_restore's errors
_SAID = 64 * 1024
_PREFIX = re.compile(r"^pg_restore: (?:\[[^\]]*\] )?(?:error: |warning: )?")
# From 12 on errors and warnings have their own word, before that the part of the program that says them.
_PROGRESS = re.compile(r"pg_restore: (?!error: |warning: |\[|.*\bfrom TOC entry )")
_IGNORED = re.compile(r"errors ignored on restore: (\d+)")
# Anywhere in a line, since the words of several workers can be mixed.
_ERROR = re.compile(r"\berror: |\[[a-z][^\]]*\] (?!Error (?:while|from) )")
_VIOLATED = re.compile(r"violates foreign key constraint|is violated by some row")
_NO_KEY = re.compile(r'no unique constraint matching given keys for referenced table "(.+?)"')

FOLLOWS = "It is restored once the objects that it depends on are."
_AT_THE_SOURCE = "Change it at the source and dump again"
# The server's message → what can be done other than to accept the loss.
_FIXES = tuple(
    (re.compile(pattern), fix)
    for pattern, fix in (
        (
            r"violates foreign key constraint",
            "Rows refer to rows that do not exist: delete or correct them at the source and dump again. Accepted, the"
            " constraint is restored NOT VALID: it holds for new rows",
        ),
        (
            r"is violated by some row",
            "Correct the rows at the source and dump again. Accepted, the constraint is restored NOT VALID: it holds"
            " for new rows",
        ),
        (
            r"could not create unique index|could not create exclusion constraint",
            "Rows break it already at the source: correct them there and dump again. Accepted, the table has no such"
            " key",
        ),
        (
            r"function array_(?:append|prepend|cat|remove|replace|positions?)\(",
            "PostgreSQL 14 changed this function: at the source write anycompatiblearray and anycompatible instead of"
            " anyarray and anyelement, or use array_agg, and dump again",
        ),
        (
            r'type "(?:pg_catalog\.)?(?:abstime|reltime|tinterval)" does not exist',
            "PostgreSQL 12 removed this type: at the source change it to timestamptz, interval or tstzrange and dump"
            " again",
        ),
        (r'type "(?:pg_catalog\.)?opaque" does not exist', "Write trigger or internal instead of opaque at the source"),
        (r"postfix operators are not supported", "PostgreSQL 14 removed postfix operators: use a function"),
        (r"function (?:\S+\.)?st_accum\(", "PostGIS 3 removed ST_Accum: use array_agg at the source and dump again"),
        (
            r"function (?:\S+\.)?_?(?:st|postgis)_\w+\(",
            "This PostGIS does not have the function in this form: use its successor at the source and dump again",
        ),
        (
            r'language "plpython2?u" does not exist',
            "Python 2 is gone: write the function for plpython3u at the source, or restore without it",
        ),
        (r'language "(.+?)" does not exist', "Install this language on the target, if a package has it"),
        (r'access method "(.+?)" does not exist', "Install the extension that has this access method, if there is one"),
        (
            r"shared_preload_libraries",
            "Name the library in the target's shared_preload_libraries and restart the server",
        ),
        (
            r"cron\.database_name",
            "pg_cron can exist in one database only, and not in a side database. Accept the loss; after the swap create"
            " it in the database that cron.database_name names (CREATE EXTENSION pg_cron) and schedule its jobs again",
        ),
        (
            r"extension control file|extension \"(.+?)\" is not available",
            "Install what brings this extension, if there is a package for this server; some exist at one provider"
            " only",
        ),
        (
            r"invalid byte sequence for encoding|has no equivalent in encoding",
            "The dump's text is not in the encoding of this database: restore it into one of its own, in any encoding"
            " with restore_encoding: SQL_ASCII and restore_locale: C",
        ),
        (
            r'unrecognized configuration parameter "[^".]+\.',
            "Give the parameter a value for the role that the restore logs in as (ALTER ROLE … SET … = …), until the"
            " swap is made: a dump of one database does not hold the database's settings",
        ),
        (r"unrecognized configuration parameter", "Remove the setting at the source (ALTER … RESET) and dump again"),
        (r'collation "(.+?)".* does not exist', "Generate the locale on the target and import it, or change it"),
        (
            r'role "(.+?)" does not exist',
            "Create the role on the target, or have the restore do it (restore_missing_roles: create)",
        ),
        (r'tablespace "(.+?)" does not exist', "Create the tablespace on the target"),
        (r'column "?(?:\w+\.)?oid"? does not exist', "Tables have no OIDs from PostgreSQL 12 on: make it a column"),
    )
)


def name_of(entry):
    """The name of a loss, by which it is accepted."""
    kind = "CONSTRAINT" if entry.kind in _CONSTRAINTS else entry.kind
    if not entry.schema:
        return f"{kind} {entry.name}"
    about = re.match(r"([A-Z][A-Z ]*) (.*)", entry.name, re.DOTALL) if kind in _ABOUT else None
    if about:
        return f"{kind} {about.group(1)} {entry.schema}.{about.group(2)}"
    return f"{kind} {entry.schema}.{entry.name}"


def normalized(name):
    """An accepted name in the form of `name_of`: pg_restore's list says FK CONSTRAINT, for one."""
    name = name.strip().rstrip(";")
    for kind in _CONSTRAINTS:
        if name.startswith(kind + " "):
            return "CONSTRAINT " + name[len(kind) + 1 :]
    return name


def accepted_names(value):
    """The setting's value as a list of names. A text is one name, or a list as JSON."""
    if isinstance(value, str):
        text = value.strip()
        try:
            value = json.loads(text) if text.startswith("[") else [text]
        except ValueError:
            value = [text]
    if not isinstance(value, (list, tuple)) or not all(isinstance(each, str) for each in value):
        raise SauvegardeError(
            "accept_losses is not a list of names.",
            repr(value),
            f'{SETTING}: ["VIEW public.v", …], as the failed restore prints it.',
        )
    return [normalized(each) for each in value if each.strip()]


def setting(names):
    """The setting that accepts these, as YAML and JSON read it."""
    return f"{SETTING}: {json.dumps(list(names), ensure_ascii=False)}"


def known_names(contents):
    """Every name that can be accepted for this dump."""
    found = set()
    for entry in contents.entries:
        found.update(name_of(each) for each in (entry, *_derived(entry)))
    found.update(name_of(Entry("TABLE DATA", rows.schema, rows.table, "")) for rows in contents.merged)
    found.update("EXTENSION " + name for name in contents.extensions)
    found.add("EXTENSION postgis_raster")
    return found


def _derived(entry):
    """Entries for the rows and values of what the entry defines: a pass over an archive of ours sees none of them."""
    return [
        entry._replace(kind=kind)
        for kind, of in (
            ("TABLE DATA", DEFINING),
            ("SEQUENCE SET", ("SEQUENCE",)),
            ("MATERIALIZED VIEW DATA", ("MATERIALIZED VIEW",)),
        )
        if entry.kind in of
    ]


def by_listing(contents, named):
    """{what pg_restore's list calls it: the entry}; named(entry) says it so."""
    found = {}
    for entry in contents.entries:
        for each in (entry, *_derived(entry)):
            found.setdefault(named(each), each)
    return found


def unlisted(names):
    """An entry from pg_restore's list alone: its parts cannot be told apart with certainty."""
    kind = re.match(r"(?:[A-Z]+ )*[A-Z]+(?= )", names)
    kind = kind.group() if kind else names.split(" ")[0]
    schema, _, rest = names[len(kind) + 1 :].partition(" ")
    name, _, owner = rest.rpartition(" ")
    return Entry(kind, "" if schema == "-" else schema, name, owner)


def misspelt(accepted, contents):
    """An obstacle for each accepted name that the dump does not hold: nothing is accepted by mistake."""
    known = known_names(contents)
    found = []
    for name in accepted:
        if name not in known:
            near = difflib.get_close_matches(name, sorted(known), 1)
            found.append(
                {
                    "what": f"The dump holds no {name}, which {SETTING} accepts as a loss.",
                    "why": f"The nearest name in it is {near[0]}." if near else "Nothing in it has a name like that.",
                    "fix": f"Take it out of {SETTING}, or write it as the failed restore prints it.",
                }
            )
    return found


def restore(command, parallel, lines, path, folder, env, what):
    """Run pg_restore over these lines of the archive's list; {id of an entry that failed: the server's words}.

    parallel: options of the first run. What failed is tried once more, one after the other: for what was only in the
    wrong order, and because the words of several workers can be mixed. Raises where pg_restore could not go on to its
    end.
    """

    def attempt(lines, *more):
        chosen = Path(folder) / "list"
        sources.write_list(chosen, lines)
        # Only --verbose names the entry that an error belongs to.
        argv = [*command, *more, "-v", "-L", str(chosen), path]
        result = process.run(argv, env=env, checked=False, kept=_KEPT, sift=sift)
        found = of_pg_restore(result.stderr) if result.status else {}
        if result.status and not found:
            raise _stopped(what, result)
        _complete(what, result, found, bool(more))
        return found

    first = attempt(lines, *parallel)
    if not first:
        return {}
    second = attempt([line for line in lines if line.split(b";")[0].decode("ascii") in first])
    # Of what was made, but for its owner, say, the second attempt only says that it is there.
    return {number: first[number] if "already exists" in why else why for number, why in second.items()}


def sift(lines):
    """The lines of a verbose pg_restore that tell of errors: of its progress, whose length is that of the dump, only
    the last line before each error, and of the failed statements, which may hold rows, only the beginning."""
    progress, statement = "", False
    for line in lines:
        if _FROM_ENTRY.search(line) or _IGNORED.search(line) or not (statement or _PROGRESS.match(line)):
            statement = line.lstrip().startswith("Command was:")
        elif line.startswith("pg_restore: "):
            statement = False
            if _PROGRESS.match(line):
                progress = line
                continue
        else:
            continue
        if progress:
            yield progress
            progress = ""
        yield line if len(line) <= _SAID else line[:_SAID] + "\n"


def _complete(what, result, found, parallel):
    """Raise where pg_restore counted more errors than were read: what is not known to be lost is lost in silence."""
    counted = _IGNORED.search(result.stderr)
    errors = len(_ERROR.findall(result.stderr))
    # With workers pg_restore counts each error, and each entry that had errors.
    if counted and int(counted.group(1)) > (errors + len(found) if parallel else max(errors, len(found))):
        raise SauvegardeError(
            what,
            f"pg_restore counted {counted.group(1)} errors, of which {len(found)} could be read:"
            f"\n{_errors(result.stderr)[-_SAID:]}",
            "Run it again with restore_jobs: 1, so that the words of several workers do not mix.",
        )


def _stopped(what, result):
    """The error of a pg_restore that could not go on: the fault is not an object's."""
    said = _errors(result.stderr)[-_SAID:]
    if result.status < 0:
        said = f"pg_restore was ended by signal {-result.status}.\n{said}"
    fix = postgres_server.server_fix(said) or (
        "Look in the server's log, and run the restore again; if it stops here again, restore another archive."
    )
    return SauvegardeError(what, said, fix)


def _errors(stderr):
    """What a verbose pg_restore said, without its progress."""
    return "\n".join(line for line in stderr.splitlines() if not _PROGRESS.match(line))


def dependencies(source, tool, encoding):
    """{entry: the entries that it depends on} of the definitions of a pg_dump archive, from its table of contents."""
    entries, numbers = {}, {}
    number, needs = "", []
    with sources.script(source, tool, "-s", "-v") as stream, io.BufferedReader(_Raw(stream)) as lines:
        for line in lines:
            if not line.startswith(b"-- "):
                continue
            begins = _TOC_ENTRY.match(line)
            header = HEADER.match(line)
            if begins:
                number, needs = begins.group(1), []
            elif line.startswith(b"-- Dependencies: "):
                needs = line.split()[2:]
            elif header and number:
                kind, schema, name, owner = (
                    header.group(part).decode(encoding, "surrogateescape") for part in (2, 3, 1, 4)
                )
                entry = Entry(kind, "" if schema == "-" else schema, name, "" if owner == "-" else owner)
                entries[number], numbers[entry] = entry, needs
                number = ""
    return {entry: {entries[each] for each in needs if each in entries} for entry, needs in numbers.items()}


class _Raw(io.RawIOBase):
    """A Stream as a raw file, for reading by lines."""

    def __init__(self, stream):
        super().__init__()
        self._stream, self._left = stream, b""

    def readable(self):
        return True

    def readinto(self, buffer):
        data = self._left or self._stream.read()
        buffer[: len(data)] = data[: len(buffer)]
        self._left = data[len(buffer) :]
        return min(len(data), len(buffer))


def of_pg_restore(stderr):
    """{id of an entry: the server's words} from what a verbose pg_restore said that went on past errors; {} where it
    did not go on to its end, or where the fault is not an object's."""
    if not _IGNORED.search(stderr):
        return {}
    found = {}
    current, statement = None, False
    for line in stderr.splitlines():
        begins = _FROM_ENTRY.search(line)
        if begins:
            current = found.setdefault(begins.group(1), [])
            statement = False
        elif _PROGRESS.match(line) or _IGNORED.search(line):
            current = None
        elif current is not None:
            # The statement itself follows, to the next of pg_restore's own lines.
            statement = (statement or line.lstrip().startswith("Command was:")) and not line.startswith("pg_restore: ")
            if not statement:
                current.append(_PREFIX.sub("", line))
        elif line.startswith("pg_restore: ") and "error" in line:
            return {}  # nothing says whose it is
    said = {number: "\n".join(lines) for number, lines in found.items()}
    if any(_STOPS.search(each) for each in said.values()):
        return {}
    return {number: words(each) for number, each in said.items()}


def words(text):
    """The server's words without what only repeats the statement."""
    lines = []
    for line in text.strip().splitlines():
        if re.match(r"LINE \d+: |\s*\^\s*$|QUERY: ", line):
            continue
        lines.append(
            re.sub(r"^(?:could not execute query: |COPY failed for table \".*?\": )?ERROR: +", "", line.strip())
        )
    return "\n".join(filter(None, lines))


def stops(error):
    """Whether a database error is not the fault of the object that was loaded: the load cannot go on."""
    code = error.pgcode or ""
    # A library or control file that is missing (58P01) is missing for this object.
    return not code or code[:2] in ("08", "53", "57") or code == "58030"


def fix_for(why):
    """Return what can be done about a loss with this message of the server, other than to accept it."""
    for pattern, fix in _FIXES:
        if pattern.search(why):
            return fix + "."
    return f"{_AT_THE_SOURCE}, or restore without it."


POSTPONED = "for after the swap"


class Ledger:
    """The losses of one load.

    accepted: names (normalized). texts: {Entry: its SQL}, to see what depends on what. postponed: names of what is
    made after the swap, and needs no acceptance.
    """

    def __init__(self, accepted, texts=None, postponed=()):
        self.accepted, self._postponed = list(accepted), set(postponed)
        self._texts = texts or {}
        self._found = {}

    def __bool__(self):
        return bool(self._found)

    def failed(self, entry, why, needs=None):
        """Record that an entry failed. needs: entries that it depends on, None where the dump does not say."""
        # Only the first entry of a name is kept.
        each = self._found.setdefault(name_of(entry), {"entry": entry, "why": why, "needs": needs, "kept": ""})
        if needs and each["needs"] is None:
            each["needs"] = needs

    def learn(self, needs):
        """Take over what the dump says of dependencies: {entry: the entries that it needs}."""
        for each in self._found.values():
            if each["needs"] is None:
                each["needs"] = needs.get(each["entry"])

    def names(self):
        return list(self._found)

    def can_be_kept_invalid(self):
        """[(entry, SQL)] of the accepted constraints that rows violate: they can hold for new rows."""
        return [
            (each["entry"], self._texts[each["entry"]])
            for name, each in self._found.items()
            if name in self.accepted and _VIOLATED.search(each["why"]) and each["entry"] in self._texts
        ]

    def keep(self, entry, how):
        """Record that something of the entry was kept."""
        self._found[name_of(entry)]["kept"] = how

    def _depends(self):
        """{name: names of the losses that it needs}."""
        found = {}
        for name, each in self._found.items():
            others = [(other, self._found[other]) for other in self._found if other != name]
            found[name] = [other for other, its in others if self._needs(each, its)]
        return found

    def _needs(self, each, other):
        entry, root = each["entry"], other["entry"]
        if each["needs"] is not None and root.kind != "TABLE DATA":
            return root in each["needs"]
        return mentions(entry, each["why"] + "\n" + self._texts.get(entry, ""), root, each["why"])

    def as_list(self):
        """The losses as plain values: object, why, fix, accepted, depends (names of losses that it needs), kept."""
        depends = self._depends()
        return [
            {
                "object": name,
                "why": each["why"],
                "fix": FOLLOWS if depends[name] else fix_for(each["why"]),
                "accepted": name in self.accepted or name in self._postponed,
                "depends": depends[name],
                "kept": POSTPONED if name in self._postponed else each["kept"],
            }
            for name, each in self._found.items()
        ]

    def judge(self):
        """Raise unless every loss was accepted. Returns notes about accepted names that did not fail."""
        found = self.as_list()
        if not all(each["accepted"] for each in found):
            raise refusal(found)
        return [f"accepted as a loss, but restored: {name}" for name in self.accepted if name not in self._found]


def mentions(entry, text, root, why=""):
    """Whether the text of an entry, or the server's words about it, name what `root` would have made."""
    if root.kind in ("EXTENSION", "PROCEDURAL LANGUAGE"):
        language = rf"^    LANGUAGE \"?{re.escape(root.name)}\"?\b"
        return f'"{root.name}"' in why or bool(re.search(language, text, re.MULTILINE))
    keyless = _NO_KEY.search(why)
    if root.kind == "CONSTRAINT" and keyless:
        return root.name.startswith(keyless.group(1) + " ")
    if root.kind == "TABLE DATA":
        return f'is not present in table "{root.name}"' in why
    if root.kind == "SCHEMA":
        return entry.schema == root.name or f'schema "{root.name}" does not exist' in why
    if root.kind not in _NAMED:
        return False
    if entry.kind in ("TABLE DATA", "SEQUENCE SET") and (entry.schema, entry.name) == (root.schema, root.name):
        return True
    names = bare_names(root)
    for schema, name in re.findall(rf"(?<![\w.\"])(?:({IDENTIFIER})\.)?({IDENTIFIER})", text):
        if unquoted(name) in names and (not schema or unquoted(schema) == root.schema):
            return True
    return False


def lines_of(found):
    """The losses for people, one paragraph each."""
    lines = []
    for each in found:
        lines.append("{}{}".format(each["object"], " (accepted)" if each["accepted"] else ""))
        lines += ["  " + line for line in each["why"].splitlines()]
        if each["depends"]:
            lines.append("  depends on " + ", ".join(each["depends"]))
        elif not each["accepted"]:
            lines.append("  Fix: " + each["fix"])
    return lines


def way_on(found):
    """The sentence that says how to restore without these."""
    names = [each["object"] for each in found]
    return f"To restore everything except these objects, accept them by name:\n{setting(names)}"


def refusal(found):
    """The error of a restore whose losses were not all accepted: it names them all."""
    open_ones = [each for each in found if not each["accepted"]]
    names = ", ".join(each["object"] for each in open_ones[:3]) + (", …" if len(open_ones) > 3 else "")
    return SauvegardeError(
        "{} of the dump cannot be restored here, and nothing was swapped: {}.".format(
            "1 object" if len(open_ones) == 1 else f"{len(open_ones)} objects", names
        ),
        "\n".join(lines_of(found)),
        way_on(found),
    )


def of_fingerprint(expected, lost):
    """A manifest's fingerprint without what was lost: what remains is proven as a whole."""
    gone = {}
    for loss in lost:
        for kind, parts in _PARTS:
            if loss.startswith(kind + " "):
                for part in parts:
                    gone.setdefault(part, set()).add(loss[len(kind) + 1 :])
    found = dict(expected)
    for part in ("tables", "matviews", "sequences"):
        if part in expected:
            found[part] = {
                key: value for key, value in expected[part].items() if bare_key(key) not in gone.get(part, ())
            }
    if gone.get("large_objects"):
        found.pop("large_objects", None)
    return found


def partitioned(expected, lost, roots):
    """Partitioned tables that a loss is part of, as names of losses: those tables, and all their partitions.

    A manifest's fingerprint has one sum for a partitioned table, so nothing of it can be proven where a part is lost.
    roots: each partition of the restored database to its partitioned table, both `schema.name`; a partitioned table
    that could not be attached to another one is such a table there, and the manifest does not mention it.
    """
    gone = {
        loss[len(kind) + 1 :]
        for loss in lost
        for kind in ("TABLE", "TABLE ATTACH", "TABLE DATA")
        if loss.startswith(kind + " ")
    }
    gone.update([leaf for leaf, root in roots.items() if root in gone])
    tables, parts = [], []
    for key, entry in expected.get("tables", {}).items():
        leaves = [bare_key(each) for each in entry.get("partitions", ())]
        if leaves and not gone.isdisjoint([bare_key(key), *leaves]):
            tables.append("TABLE DATA " + bare_key(key))
            parts += ["TABLE DATA " + each for each in leaves]
    return tables, parts


_PARTS = (
    ("TABLE DATA", ("tables",)),
    ("TABLE", ("tables",)),
    ("MATERIALIZED VIEW DATA", ("matviews",)),
    ("MATERIALIZED VIEW", ("matviews",)),
    ("SEQUENCE SET", ("sequences",)),
    ("SEQUENCE", ("sequences",)),
    ("BLOB", ("large_objects",)),
    ("BLOBS", ("large_objects",)),
    ("BLOB METADATA", ("large_objects",)),
)


def bare_key(key):
    """`schema.name` of a fingerprint's key, which is quoted."""
    return ".".join(flat(unquoted(part)) for part in re.findall(IDENTIFIER, key))
