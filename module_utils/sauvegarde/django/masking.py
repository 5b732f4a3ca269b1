"""The masking policy: what of each field leaves production, and the functions that replace what must not.

A policy is a plain dict, kept in the inventory:

    {"models": {"auth.user": {"username": {"mask": "username"}, "date_joined": "keep", "last_login": "empty", …},
                "sessions.session": "drop", …},
     "password": "what every masked account's password becomes (left out: nobody can log in)",
     "kept_words": ["words that are parts of names and stay in texts all the same"],
     "not_searched": ["label.field of originals that may be anywhere"]}

Each concrete field and each many-to-many field of each model that is dumped must stand in it: a field that the policy
does not know stops the dump. A relation that is kept follows the masking of what it points to.

Masked values depend on the value and on a secret key alone, so the same person is the same everywhere and every time,
and they have the shape of what they replace. Where a field must be unique and two originals would become one value, the
one that comes later gets another: that one depends on the rows before it, too, and may change with them.
"""

import base64
import bisect
import hashlib
import hmac
import json
import re
from typing import NamedTuple, Optional

from ..errors import SauvegardeError
from .dependence import dependence
from .escapes import Decoded, in_json_strings, is_ambiguous, is_escaped, parse_json
from .fixture import NUMBERED
from .people import People, recased

KEEP, EMPTY, DROP = "keep", "empty", "drop"
# As keep, for values that are no people's: originals of other fields are not searched in them when data leave.
PUBLIC = "public"
# What a draft leaves for a person to decide: "ask", or {"ask": "the reason"}.
ASK = "ask"

_SYLLABLES = ("ba", "bel", "cha", "do", "fa", "gan", "ju", "ka", "lo", "mer", "na", "nor", "pa", "ré", "ri", "sa", "vé")
EMAIL = re.compile(r"[\w.+'-]+@[\w-]+(?:\.[\w-]+)+")
# What stands between a telephone's digits; `\s` has the spaces that do not break, too.
_GAP = r"[\s./\u2010-\u2013-]"
# French ones, of just so many digits. A day with an hour behind it ("06-05-2024 12") is none.
_FRENCH = (
    rf"(?:\+|(?<!\w)00)33\)?{_GAP}{{0,2}}(?:\(0\){_GAP}?|0{_GAP}?)?[1-9](?:{_GAP}?\d\d){{4}}"
    r"|(?<!\w)(?!\d\d[./-]\d\d[./-](?:19|20)\d\d(?!\d))"
    rf"0[1-9](?:/\d\d(?:{_GAP}\d\d){{3}}|(?:(?!/){_GAP}?\d\d){{4}})"
)
# Then whatever begins with a country's number. How long it is nobody knows: all digits behind it are taken for its own.
PHONE = re.compile(
    rf"(?:{_FRENCH})(?!\w)|(?:\+|(?<!\w)00(?!0))\d{{1,3}}(?:{_GAP}?\(0\))?(?:(?:{_GAP}|[()]){{0,2}}\d){{7,}}(?!\w)"
)
_DATE = re.compile(r"(\d{4})-\d{2}-\d{2}(.*)", re.DOTALL)
_ITERATIONS = 260000


class Digest:
    """A stream of numbers that only the key's owner can predict, the same for the same value."""

    def __init__(self, key, domain, value, attempt):
        seed = json.dumps([domain, value, attempt], sort_keys=True).encode("utf-8")
        self._key = hmac.new(key, seed, hashlib.sha256).digest()
        self._counter = 0
        self._bytes = b""

    def below(self, limit):
        """A number from 0 up to limit - 1 (limit at most some thousands: the bias is of no matter then)."""
        if len(self._bytes) < 4:
            self._bytes += hmac.new(self._key, str(self._counter).encode(), hashlib.sha256).digest()
            self._counter += 1
        number, self._bytes = int.from_bytes(self._bytes[:4], "big"), self._bytes[4:]
        return number % limit

    def hex(self, length):
        return "".join("0123456789abcdef"[self.below(16)] for _ in range(length))

    def word(self, syllables):
        return "".join(_SYLLABLES[self.below(len(_SYLLABLES))] for _ in range(syllables)).capitalize()


def _letters(digest, text):
    """Letters for letters, digits for digits, all else and every length kept."""
    replaced = []
    for character in text:
        if character.isdigit():
            replaced.append("0123456789"[digest.below(10)])
        elif character.isalpha():
            letter = "abcdefghijklmnopqrstuvwxyz"[digest.below(26)]
            replaced.append(letter.upper() if character.isupper() else letter)
        else:
            replaced.append(character)
    return "".join(replaced)


def _digits(digest, text):
    return "".join("0123456789"[digest.below(10)] if character.isdigit() else character for character in text)


def _phone(digest, text):
    # The leading zero or plus is the number's shape; after it no digit survives.
    return text[:1] + _digits(digest, text[1:])


def _token(digest, text):
    if re.match(r"[0-9a-f-]*\Z", text):  # a UUID stays one
        return "".join(character if character == "-" else digest.hex(1) for character in text)
    return _letters(digest, text)


def _address(digest, text):
    if ":" in text:
        return ":".join(["fd00", *(digest.hex(4).lstrip("0") or "0" for _ in range(7))])
    return ".".join(["10", *(str(digest.below(256)) for _ in range(3))])


def _date(digest, text):
    """Another day of the same year; what follows the day (a time) is kept."""
    match = _DATE.match(text)
    if match is None:
        raise ValueError("it is not a date")
    return f"{match.group(1)}-{1 + digest.below(12):02d}-{1 + digest.below(28):02d}{match.group(2)}"


def _number(digest, value):
    """A number of as many digits, with the same sign and as many decimals."""
    text = _digits(digest, str(value))
    # A leading zero would shorten it, or make text of it that is no JSON number.
    text = re.sub(r"\A(-?)0(?=\d)", r"\g<1>1", text)
    return text if isinstance(value, str) else type(value)(text)


def _email(digest, text):
    return digest.hex(12) + "@example.org"


# How: text in, text out. The domain of the digest is the how, so that equal values stay equal across tables.
_TEXT_MASKS = {
    "text": _letters,
    "digits": _digits,
    "phone": _phone,
    "token": _token,
    "ip": _address,
    "date": _date,
    "email": _email,
    "username": lambda digest, text: "user-" + digest.hex(12),
    "slug": lambda digest, text: "s-" + digest.hex(12),
    "url": lambda digest, text: "https://example.org/" + digest.hex(16),
    "first_name": lambda digest, text: digest.word(2),
    "last_name": lambda digest, text: digest.word(3),
    "name": lambda digest, text: digest.word(2) + " " + digest.word(3),
}
MASKS = [*sorted(_TEXT_MASKS), "number", "password", "scrub"]
# Masks of people's names.
PEOPLE = ("first_name", "last_name", "name")
# Spaces so small that a value may come out as itself, and how often another one is tried then.
_SMALL, _OTHERS = ("date", "digits", "number", "first_name", "last_name", "name", "phone", "text", "token", "ip"), 50
# What a value that had to be unique may get behind it when its mask is too small a space (a name, a short code).
_SUFFIXED = ("first_name", "last_name", "name", "username", "slug")


class Field(NamedTuple):
    """What masking must know of a field (from the description of the site's models)."""

    unique: bool = False  # alone or together with others
    max_length: Optional[int] = None
    null: bool = False
    empty: object = ""  # what "empty" makes of a field that may not be NULL
    nested: bool = False  # its value is a text that holds JSON (an array, a hstore)


class Mask:
    """Replaces one field's values. Called with a fixture's value, gives another one; None and "" stay."""

    def __init__(self, how, key, field, name, password=None, people=None):
        self.how, self.key, self.field, self.name = how, key, field, name
        self.password, self.people = password, people
        self._given = {} if field.unique else None
        # For the report: values that were masked, and what was taken out of texts.
        self.count, self.removed = 0, {"email": 0, "phone": 0, "name": 0}

    def __call__(self, value):
        if value is None or value == "":
            return value
        self.count += 1
        if isinstance(value, bool):
            raise self._misfit(value, "it is true or false")
        for attempt in range(1000):
            masked = self._masked(value, attempt)
            if self.how in PEOPLE and self.people and isinstance(masked, str) and self.people.knows(masked):
                continue  # an invented name that somebody has
            if masked == value and attempt < _OTHERS and self.how in _SMALL and isinstance(value, (str, int, float)):
                continue  # by chance what it was
            if self._given is None:
                return masked
            # Which original each masked value stands for, both as short digests: memory, not secrecy.
            mark = hashlib.md5(repr(masked).encode()).digest()[:10]
            original = hashlib.md5(repr(value).encode()).digest()[:10]
            if self._given.setdefault(mark, original) == original:
                return masked
        raise SauvegardeError(
            f"{self.name} must be unique, and its mask “{self.how}” ran out of different values.",
            f"{len(self._given)} values were masked before.",
            "Choose a mask with more room in the policy, or drop the rows.",
        )

    def _masked(self, value, attempt):
        if self.field.nested and isinstance(value, str):
            try:
                return json.dumps(self._changed(json.loads(value), attempt))
            except json.JSONDecodeError as error:
                raise self._misfit(value, "it is not JSON") from error
        return self._changed(value, attempt)

    def _changed(self, value, attempt):
        try:
            if self.how == "scrub":
                return _inside(value, lambda text: self._fit(self._scrubbed(text)), self._scrubbed)
            if self.how == "text":
                return self._fit(
                    _inside(value, lambda text: _letters(self._digest(text, attempt), text), self._scrubbed)
                )
            if isinstance(value, (list, dict)):
                return _inside(value, lambda text: self._changed(text, 0) if text else text, self._scrubbed)
            if self.how == "password":
                return self.password or "!" + self._digest(value, 0).hex(40)
            if self.how == "number":
                return _number(self._digest(value, attempt), value)
            if not isinstance(value, str):
                raise ValueError("it is not text")
            masked = _TEXT_MASKS[self.how](self._digest(value, attempt), value)
            if attempt and self._given is not None and self.how in _SUFFIXED:
                masked += self._digest(value, attempt).hex(8)
            return self._fit(masked)
        except ValueError as error:
            raise self._misfit(value, str(error)) from error

    def _digest(self, value, attempt):
        return Digest(self.key, self.how, value, attempt)

    def _scrubbed(self, text):
        if "\\" in text and parse_json(text) is not None:
            return in_json_strings(text, self._scrubbed)
        if is_escaped(text):
            seen = Decoded(text)
            found = [(*seen.span(start, end), kind, value) for start, end, kind, value in self._personal(seen.text)]
            # Both readings count where they may differ: a folder's name behind a backslash looks like an escape.
            found = _apart(_apart([], found), self._personal(text) if is_ambiguous(text) else [])
        else:
            found = self._personal(text)
        parts, end = [], 0
        for start, stop, kind, value in found:
            self.removed[kind] += 1
            parts += [text[end:start], self._substitute(kind, value)]
            end = stop
        return "".join([*parts, text[end:]]) if found else text

    def _personal(self, text):
        """[(start, end, kind, value)] of what “scrub” removes from the text, in order."""
        found = [(match.start(), match.end(), "email", match.group()) for match in EMAIL.finditer(text)]
        phones = [(match.start(), match.end(), "phone", match.group()) for match in PHONE.finditer(text)]
        names = self.people.spans(text) if self.people else ()
        names = [(start, end, "name", (word, text[start:end])) for start, end, word in names]
        return _apart(_apart(found, phones), names)

    def _substitute(self, kind, value):
        if kind == "name":
            return recased(self._other_name(value[0]), value[1])
        digest = Digest(self.key, kind, value, 0)
        return _email(digest, "") if kind == "email" else _phone(digest, value)

    def _other_name(self, word):
        for attempt in range(100):
            other = Digest(self.key, "people", word, attempt).word(2)
            if not self.people.knows(other):
                break
        return other

    def _fit(self, masked):
        limit = self.field.max_length
        return masked[:limit] if limit and isinstance(masked, str) else masked

    def _misfit(self, value, why):
        # The value itself is what must not be seen.
        return SauvegardeError(
            f"{self.name} cannot be masked as “{self.how}”.",
            f"A value of type {type(value).__name__}: {why}.",
            "Choose another mask for the field in the policy.",
        )


def _apart(first, then):
    """The places (start, end, …) of both lists, in order, without those of the second one that overlap others."""
    if not then:
        return first
    found, starts = list(first), [place[0] for place in first]
    for place in then:
        index = bisect.bisect_left(starts, place[1])
        if index == 0 or found[index - 1][1] <= place[0]:
            found.insert(index, place)
            starts.insert(index, place[0])
    return found


def _inside(value, mask, of_names=str):
    """The mask applied to a text, or to every text inside a JSON value; `of_names`: that of its objects' names."""
    if isinstance(value, str):
        return mask(value)
    if isinstance(value, list):
        return [_inside(item, mask, of_names) for item in value]
    if isinstance(value, dict):
        return {of_names(name): _inside(item, mask, of_names) for name, item in value.items()}
    return value


class Empty:
    """Empties one field: NULL where it may be, else the emptiest value of its kind."""

    def __init__(self, field, many=False):
        self.value = None if field.null else field.empty
        self.many = many
        self.count = None if many else 0

    def __call__(self, value):
        if self.count is not None and value not in (None, self.value):
            self.count += 1
        # A list is a many-to-many field's members, or JSON. A natural key is one, too, and emptied where NULL may be.
        return [] if self.many or (isinstance(value, list) and self.value is not None) else self.value


class Masking:
    """A policy, checked against a description of the models, and its masks ready for use.

    `description`: {label: {"fields": {name: {"type", "null", "unique", "max_length", "pk", "relation": [label, field]
    or None, "many": bool, "empty"}}, "natural_key": [[label, field name], …] or None}} as `site.describe` gives it. A
    field that points to a proxy has a "natural_key" too, the proxy's.
    `key`: bytes, the secret. `labels`: the models that will be dumped.
    """

    def __init__(self, policy, description, key, labels):
        self.key = _long_enough(key)
        self.numbers = {}  # of fixture sets: {label: references that are written as numbers}
        self.description = description
        self.dependence = dependence(description)
        self.said = {label.lower(): rules for label, rules in policy.get("models", {}).items()}
        self.models = {label.lower(): _unpublic(rules) for label, rules in policy.get("models", {}).items()}
        password = policy.get("password")
        self.password = _password(password, key) if password else None
        # Filled with the site's names before anything is masked.
        self.people = People(policy.get("kept_words", ()))
        self.not_searched = {name.lower() for name in policy.get("not_searched", ())}
        self._masks = {}
        self._check(labels)

    def drops(self, label):
        """Whether no row of the model leaves."""
        return self.models.get(label.lower()) == DROP

    def mask(self, label, name):
        """The function that replaces the field's values, or None where they are kept."""
        place = (label.lower(), name)
        if place not in self._masks:
            self._masks[place] = self._made(*place)
        return self._masks[place]

    def _made(self, label, name):
        facts = self._described(label)["fields"][name]
        action = self.models[label][name]
        if action == KEEP:
            relation = facts.get("relation")
            if relation is None or relation[0] not in self.models or self.drops(relation[0]):
                return None
            # Whoever points to a masked key points to what the key became.
            followed = self.mask(*relation)
            if followed is None or not facts.get("many"):
                return followed
            return lambda values: [followed(value) for value in values]
        empty, nested = facts.get("empty", ""), facts.get("nested", False)
        field = Field(facts["unique"], facts.get("max_length"), facts["null"], empty, nested)
        if action == EMPTY:
            return Empty(field, facts.get("many", False))
        return Mask(action["mask"], self.key, field, f"{label}.{name}", self.password, self.people)

    def facts(self, labels):
        """What was masked, for the report: {"fields": {label: {field: {"action", "values"}}}, "removed", "password"}.

        The values are those that a mask was asked for: references that follow it count as well.
        """
        fields, removed = {}, {"email": 0, "phone": 0, "name": 0}
        for label in labels:
            rules = self.said[label]
            for name, action in rules.items() if isinstance(rules, dict) else ():
                mask = self._masks.get((label, name)) if action not in (KEEP, PUBLIC) else None
                how = "mask {mask}".format(**action) if isinstance(action, dict) else action
                values = getattr(mask, "count", None if action in (KEEP, PUBLIC) else 0)
                fields.setdefault(label, {})[name] = {"action": how, "values": values}
                for kind, count in getattr(mask, "removed", {}).items():
                    removed[kind] += count
        return {"fields": fields, "removed": removed, "password": self.password is not None}

    def keeps_key(self, label):
        """Whether the keys of the model's rows leave as they are."""
        name = self.description[label]["pk"]
        relation = self.description[label]["fields"][name].get("relation")
        kept = self.models[label].get(name) == KEEP
        return kept and (relation is None or (relation[0] in self.description and self._is_plain(*relation)))

    def _is_plain(self, label, name):
        return self.models.get(label, {}) != DROP and self.models.get(label, {}).get(name) == KEEP

    def masked_fields(self):
        """{label: {name of a field: its mask, or "empty"}} of the fields that do not leave as they are.

        Of models whose rows are dropped, those that hold names of people. Without those that are `not_searched`.
        """
        found = {}
        for label, rules in self.models.items():
            if rules == DROP:
                found[label] = name_fields(self.description).get(label, {})
            elif label in self.description:
                fields = self.description[label]["fields"]
                found[label] = {
                    name: EMPTY if action == EMPTY else action["mask"]
                    for name, action in rules.items()
                    if action != KEEP
                    and name in fields
                    and not fields[name].get("relation")
                    and fields[name]["type"] != "BooleanField"
                    and f"{label}.{name}".lower() not in self.not_searched
                }
        return {label: fields for label, fields in found.items() if fields}

    def name_fields(self):
        """{label: {name of a field: its mask}} of the fields whose values are names of people.

        Of models whose rows are dropped, those that their names tell.
        """
        found = {}
        by_name = name_fields(self.description)
        for label, rules in self.models.items():
            if rules == DROP:
                found[label] = by_name.get(label, {})
            elif label in self.description:
                masked = {
                    name: each["mask"] for name, each in rules.items() if isinstance(each, dict) and "mask" in each
                }
                found[label] = {
                    name: how
                    for name, how in masked.items()
                    if how in (*PEOPLE, "username") and name in self.description[label]["fields"]
                }
        return {label: fields for label, fields in found.items() if fields}

    def natural(self, label, name):
        """The masks of the natural key by which the field refers to its objects: one (or None) for each part of it,
        which may be another model's."""
        facts = self._described(label.lower())["fields"][name]
        if facts["relation"][0] in NUMBERED:
            return []
        return [self.mask(*part) if part[0] not in NUMBERED else None for part in self._parts(facts) or []]

    def _parts(self, facts):
        """The natural key of what a relation points to; a proxy's own one where it points to that."""
        if "natural_key" in facts:
            return facts["natural_key"]
        return self._described(facts["relation"][0])["natural_key"]

    def _described(self, label):
        """What is known of the model. Of one that is not, nobody can say what of it must be masked."""
        if label not in self.description:
            raise SauvegardeError(
                f"{label} cannot be masked.",
                "It is no model with a table in the site's database.",
                "Drop the rows that point to it, or empty the field, in the policy.",
            )
        return self.description[label]

    def _check(self, labels):
        problems = []
        for label in labels:
            rules = self.models.get(label)
            facts = self.description[label]
            if rules is None:
                problems.append(f"{label}: the model is not in the policy")
            elif rules != DROP and not isinstance(rules, dict):
                problems.append(f"{label}: neither “drop” nor a list of its fields")
            elif rules != DROP:
                for name, field in sorted(facts["fields"].items()):
                    problem = self._problem(label, name, field, rules.get(name))
                    if problem:
                        problems.append(f"{label}.{name}: {problem}")
        if problems:
            raise SauvegardeError(
                "The masking policy does not fit the site's models: nothing was dumped.",
                "\n".join(problems),
                "Classify each of them in the policy: keep, empty, {mask: HOW} (HOW one of "
                + ", ".join(MASKS)
                + "), or "
                "drop for a whole model.",
            )

    def _problem(self, label, name, field, action):
        relation = field.get("relation")
        if action is None:
            return "the field is not in the policy"
        if action == ASK or (isinstance(action, dict) and list(action) == [ASK]):
            return f"a person must decide: {action[ASK]}" if isinstance(action, dict) else "a person must decide"
        if action != KEEP and field.get("tree"):
            return _of_tree(field)
        if action == EMPTY:
            if field["pk"] or (field["unique"] and not field["null"] and not field.get("many")):
                return "a field that must be unique cannot be empty"
            if relation and not field["null"] and not field.get("many"):
                return "a relation that must not be NULL cannot be empty"
            return ""
        if action == KEEP:
            if relation and self.drops(relation[0]):
                return f"it points to {relation[0]}, whose rows are dropped: empty it, or drop these rows too"
            return self._pointed(relation[0], field) if relation and relation[0] not in NUMBERED else ""
        if is_mask(action):
            return mask_problem(field, action["mask"], self.dependence.get((label, name), ""))
        return f"“{action}” is not an action"

    def _pointed(self, label, field):
        """What is wrong with a kept relation to the model: its key, or its natural key, would leave with it."""
        if label not in self.description:
            return f"it points to {label}, which has no table in this database: empty it, or drop these rows"
        natural = self._parts(field)
        for other in [label, *(part[0] for part in natural or ())]:
            if not isinstance(self.models.get(other), dict) and other not in NUMBERED:
                return f"it points to {other}, which the policy says nothing about"
        if natural == [] and masked_any(self.models, self.description, label, set()):
            return f"the natural key of {label} is masked in a way that cannot be followed"
        return ""

    def entry(self, entry, natural_foreign=True):
        """A fixture's object, masked; None where its rows are dropped. For streams that come from an archive."""
        label = entry["model"].lower()
        if label not in self.description or label not in self.models:
            raise SauvegardeError(
                f"The archive holds objects of {label}, which the masking policy or the site does not know.",
                fix="Classify the model in the policy.",
            )
        if self.drops(label):
            return None
        facts = self.description[label]["fields"]
        masked = dict(entry, fields={})
        key_name = self.description[label]["pk"]
        if "pk" in entry:
            mask = self.mask(label, key_name)
            masked["pk"] = mask(entry["pk"]) if mask else entry["pk"]
        for name, value in entry["fields"].items():
            if name not in facts or name not in self.models[label]:
                raise SauvegardeError(
                    f"The archive holds {label}.{name}, which the masking policy or the site does not know.",
                    fix="Classify the field in the policy.",
                )
            masked["fields"][name] = self._value(label, name, facts[name], value, natural_foreign)
        return masked

    def _value(self, label, name, facts, value, natural_foreign):
        relation = facts.get("relation")
        if relation and natural_foreign and self.models[label][name] == KEEP:
            many = facts.get("many")
            natural = [self._natural_value(label, name, item) for item in value] if many else None
            if many and any(isinstance(item, list) for item in value):
                return natural
            if not many and isinstance(value, list):
                return self._natural_value(label, name, value)
        mask = self.mask(label, name)
        return mask(value) if mask else value

    def _natural_value(self, label, name, value):
        if not isinstance(value, list):
            return value
        masks = self.natural(label, name)
        return [masks[i](part) if i < len(masks) and masks[i] else part for i, part in enumerate(value)]


def is_mask(action):
    """Whether the action is {"mask": one of `MASKS`}."""
    return isinstance(action, dict) and list(action) == ["mask"] and action["mask"] in MASKS


def mask_problem(field, how, depended):
    """Why the field cannot have the mask; "" where it can. `depended`: as `dependence` has it of the field, or ""."""
    if field.get("tree"):
        return _of_tree(field)
    if how == "scrub" and depended:
        return f"it cannot be scrubbed: {depended}. Keep it, or give it a mask of its own kind"
    return "a relation cannot be masked: mask what it points to" if field.get("relation") else ""


def _of_tree(field):
    return f"it belongs to {field['tree']}, which breaks when a value changes: keep it"


def secret(text, source="migrate_key"):
    """The masking's key (bytes) of its hexadecimal digits. `source`: where a user gives it."""
    try:
        return _long_enough(bytes.fromhex(text))
    except ValueError as error:
        raise SauvegardeError(
            "The key of the masking is not hexadecimal.", fix=f"Give {source} 32 hexadecimal digits or more."
        ) from error


def _long_enough(key):
    if len(key) < 16:
        raise SauvegardeError(
            "The key of the masking is too short.", f"It has {len(key)} bytes.", "Give it 16 bytes or more."
        )
    return key


def masked_any(models, description, label, seen):
    """Whether anything of the model's objects, or of what they point to, is masked. `models`: the policy's."""
    rules = models.get(label)
    if label in seen or label not in description or not isinstance(rules, dict):
        return False
    seen.add(label)
    relations = [facts["relation"][0] for facts in description[label]["fields"].values() if facts["relation"]]
    own = any(action not in (KEEP, PUBLIC) for action in rules.values())
    return own or any(masked_any(models, description, each, seen) for each in relations)


def _unpublic(rules):
    if not isinstance(rules, dict):
        return rules
    return {name: KEEP if action == PUBLIC else action for name, action in rules.items()}


def _password(text, key):
    """The stored form of a password, as Django's default hasher writes it: made once, the same for every account."""
    salt = hmac.new(key, b"password", hashlib.sha256).hexdigest()[:22]
    digest = hashlib.pbkdf2_hmac("sha256", text.encode("utf-8"), salt.encode("ascii"), _ITERATIONS)
    return "pbkdf2_sha256${}${}${}".format(_ITERATIONS, salt, base64.b64encode(digest).decode("ascii"))


# --- A policy to start from -------------------------------------------------------------------------------------------

_DROPPED = re.compile(
    r"\A(sessions\.|authtoken\.|admin\.logentry|account\.emailconfirmation|otp_|axes\.)|token\Z|session\Z"
)
_BY_NAME = [
    (r"password|passwd|mot_de_passe", "password"),
    (r"e_?mail|courriel", "email"),
    (r"(\A|_)(user_?name|login|pseudo|nick_?name)\Z", "username"),
    (r"first_?name|given_?name|prenom", "first_name"),
    (r"last_?name|family_?name|surname|nom_de_famille", "last_name"),
    (r"(contact|full|author|person|customer|client|owner)_?name\Z|\A(nom|contact|author|auteur)\Z", "name"),
    (r"phone|mobile|fax|(\A|_)tel(\Z|_)|portable", "phone"),
    (r"token|secret|api_?key|private_?key|session|(\A|_)otp", "token"),
    (r"birth|naissance|anniversaire|(\A|_)(dob|born)(\Z|_)|\Anee?_le\Z", "date"),
    (r"street|address|adresse|(\A|_)rue(\Z|_)|iban|siret|ssn|passport", "text"),
    (r"post_?code|postal|zip", "digits"),
]
# Models whose rows are people, by their own names: there the plain name is a person's, too.
_OF_PEOPLE = re.compile(
    r"(author|auteur|candidat|candidate|applicant|client|contact|contributor|customer|employee|member|membre|owner|patient"
    r"|people|person|personne|player|profile|recruiter|recruteur|speaker|staff|student|subscriber|teacher|user)s?\Z"
)
_PLAIN_NAME = re.compile(r"\A(name|nom|display_name)\Z")
_LONG = 100
NUMBERS = ("IntegerField", "BigIntegerField", "SmallIntegerField", "PositiveIntegerField", "PositiveBigIntegerField")


def starting_policy(description):
    """A policy that classifies every field of every model, for a person to read and correct.

    Recognised are passwords, names, addresses of every kind, telephones, tokens and sessions, by the words in the
    fields' names and by their types; free text loses the addresses and telephones inside it; all else is kept, and so
    is what other rows depend on (trees, natural keys, generic references, content types). Search indexes, which hold
    the words of all other fields, are dropped: the site fills them again.
    """
    models = {label: DROP for label, facts in description.items() if is_account_data(label) or facts.get("index")}
    depended = dependence(description)
    # Rows that cannot be without a dropped row go with it.
    while True:
        orphans = [
            label
            for label, facts in description.items()
            if label not in models and any(_needs(field, models) for field in facts["fields"].values())
        ]
        if not orphans:
            break
        models.update(dict.fromkeys(orphans, DROP))
    for label, facts in sorted(description.items()):
        if label not in models:
            models[label] = {
                name: KEEP if label in NUMBERED else _start(field, name, models, (label, name) in depended, label)
                for name, field in sorted(facts["fields"].items())
            }
    return {"models": models}


def unclassified(draft, policy):
    """The part of a starting policy that says something new: models and fields that the policy does not know."""
    known = {label.lower(): rules for label, rules in policy.get("models", {}).items()}
    left = {}
    for label, rules in draft["models"].items():
        have = known.get(label)
        if have is None:
            left[label] = rules
        elif isinstance(have, dict) and isinstance(rules, dict):
            new = {name: action for name, action in rules.items() if name not in have}
            if new:
                left[label] = new
    return {"models": left}


def _needs(field, dropped):
    relation = field.get("relation")
    return bool(relation and relation[0] in dropped and not field["null"] and not field.get("many"))


def mask_by_name(field, name, label=""):
    """The mask that the field's name, in the model `label`, asks for, or an empty text."""
    if _PLAIN_NAME.search(name.lower()) and is_of_people(label) and field.get("text"):
        return "name"
    for pattern, how in _BY_NAME:
        if re.search(pattern, name.lower()):
            if how == "date":
                if field["type"] in ("DateField", "DateTimeField"):
                    return "date"
                if field.get("text"):
                    return "text"
            elif field["type"] in NUMBERS:
                return "number"
            elif field["type"] == "UUIDField":
                return "token" if how in ("token", "password") else ""
            elif field.get("text"):
                return how
    return ""


def is_of_people(label):
    """Whether the model's name says that its rows are people."""
    return bool(_OF_PEOPLE.search(label))


def is_account_data(label):
    """Whether the model holds sessions, tokens or logs of accounts, whose rows a draft drops."""
    return bool(_DROPPED.search(label))


def is_personal(name):
    """Whether a field of this name holds personal data, of whatever kind."""
    return any(re.search(pattern, name.lower()) for pattern, _ in _BY_NAME)


def name_fields(description, masks=PEOPLE):
    """{label: {field that holds people's names: its mask}} of every model, dropped ones too. `masks`: which count."""
    found = {}
    for label, facts in description.items():
        for name, field in facts["fields"].items():
            how = "" if field.get("relation") or field.get("nested") else mask_by_name(field, name, label)
            if how in masks:
                found.setdefault(label, {})[name] = how
    return found


def _start(field, name, models, depended, label):
    relation = field.get("relation")
    if field.get("tree"):
        return KEEP
    if relation:
        return EMPTY if models.get(relation[0]) == DROP and (field["null"] or field.get("many")) else KEEP
    if field["type"] == "GenericIPAddressField":
        return {"mask": "ip"}
    if field.get("email"):
        return {"mask": "email"}
    how = mask_by_name(field, name, label)
    if how:
        return {"mask": how}
    if field["type"] == "SearchVectorField":
        return EMPTY  # all words of other fields; the site makes it again
    if field["type"] == "BinaryField" and is_personal(name):
        return EMPTY
    if depended or field.get("choices"):
        return KEEP
    # Wherever there is room for a sentence.
    long = field["type"] == "CharField" and not field["pk"] and (field["max_length"] or _LONG) >= _LONG
    long = long and not field.get("url")
    if long or field.get("nested") or field["type"] in ("TextField", "JSONField"):
        return {"mask": "scrub"}
    return KEEP
