"""Recognise personal data in values: what a text is, or what it holds."""

from __future__ import annotations

import re

from . import known_people
from .escapes import decode
from .text_scrub import EMAIL, PHONE

# Only so many characters of a text are read.
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


def kinds(text: str, people: known_people.People) -> dict[str, bool]:
    """Return {kind: whether the whole text is of that kind} for what the text holds. `people`: those of the site."""
    text = decode(text[:READ]).strip()
    of_text: dict[str, bool] = {}
    for kind, pattern in (("email", EMAIL), ("phone", PHONE)):
        if pattern.search(text):
            of_text[kind] = bool(pattern.fullmatch(text))
    if _IP.fullmatch(text):
        of_text["ip"] = True
    names = people.spans(text)
    if names:
        whole = len(names) == len(known_people.words(text)) and not any(letter.isdigit() for letter in text)
        if any(not text[one[1] : two[0]].strip(" ,;-\u00a0") for one, two in zip(names, names[1:])):
            of_text["name"] = whole
        elif whole:
            # A single word is a name only if all values of the field are; otherwise it may be a town or a colour.
            of_text["word"] = True
    address = _ADDRESS.search(text)
    if address:
        of_text["address"] = address.start() < 20 and len(text) <= 150
    if _is_random(text):
        of_text["key"] = True
    elif _KEY.search(text):
        of_text["key"] = bool(_KEY.fullmatch(text))
    return of_text


def _is_random(text: str) -> bool:
    """Return whether the text is one long word of letters and digits, as keys are. (A UUID is not a key.)"""
    if not _RANDOM.fullmatch(text) or _UUID.fullmatch(text):
        return False
    digits = sum(letter.isdigit() for letter in text)
    return digits >= 3 and len(text) - digits >= 3
