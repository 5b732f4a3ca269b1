"""Recognise personal data by values: what a text is, or holds."""

import re

from . import people
from .escapes import decode
from .masking import EMAIL, PHONE

# How much of a text is looked at.
READ = 20000

_IP = re.compile(r"(?:\d{1,3}\.){3}\d{1,3}|(?=.*::|(?:[^:]*:){7})[0-9a-fA-F:]{3,39}")
_STREETS = "rue|avenue|av\\.|boulevard|bd|chemin|impasse|all[ée]e|route|quai|cours|square|place|faubourg|lotissement"
_ADDRESS = re.compile(
    rf"(?<!\w)\d{{1,4}}(?:\s?(?:bis|ter|quater))?,?\s(?:{_STREETS})\s\w"
    r"|(?<!\w)\d{1,5}\s(?:\w+\s){1,3}(?:street|st\.?|road|rd\.?|lane|drive|avenue|ave\.?|square|court)(?!\w)"
    r"|\w{3,}(?:stra(?:ß|ss)e|str\.|weg|gasse)\s\d{1,4}(?!\w)"
    r"|(?<!\w)(?:calle|via|piazza|plaza)\s[^\W\d_][\w ]{2,30},?\s\d{1,4}(?!\w)",
    re.IGNORECASE,
)
_KEY = re.compile(
    r"(?<![\w/+.-])(?:(?:sk|pk|rk)_(?:live|test)_\w{10,}|gh[pousr]_\w{20,}|AKIA[0-9A-Z]{16}|xox[abps]-[\w-]{10,}"
    r"|eyJ[\w-]{10,}\.[\w-]{10,}\.[\w-]*|-----BEGIN [A-Z ]*PRIVATE KEY-----|pbkdf2_sha\d+\$\S+|argon2\S*\$\S+)"
)
_RANDOM = re.compile(r"[A-Za-z0-9+/_=]{20,}|[A-Za-z0-9+/_=-]{32,}")
_UUID = re.compile(r"[0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}")


def kinds(text, known):
    """{kind: whether the whole text is of it} of what the text holds. `known`: the site's `people.People`."""
    text = decode(text[:READ]).strip()
    found = {}
    for kind, pattern in (("email", EMAIL), ("phone", PHONE)):
        if pattern.search(text):
            found[kind] = bool(pattern.fullmatch(text))
    if _IP.fullmatch(text):
        found["ip"] = True
    names = known.spans(text)
    if names:
        whole = len(names) == len(people.words(text)) and not any(letter.isdigit() for letter in text)
        if any(not text[one[1] : two[0]].strip(" ,;-\u00a0") for one, two in zip(names, names[1:])):
            found["name"] = whole
        elif whole:
            # One word alone is a name where all of the field's values are; else it may be a town, or a colour.
            found["word"] = True
    address = _ADDRESS.search(text)
    if address:
        found["address"] = address.start() < 20 and len(text) <= 150
    if _is_random(text):
        found["key"] = True
    elif _KEY.search(text):
        found["key"] = bool(_KEY.fullmatch(text))
    return found


def _is_random(text):
    """Whether the text is one long word of letters and digits, as keys are; other identifiers have a known form."""
    if not _RANDOM.fullmatch(text) or _UUID.fullmatch(text):
        return False
    digits = sum(letter.isdigit() for letter in text)
    return digits >= 3 and len(text) - digits >= 3
