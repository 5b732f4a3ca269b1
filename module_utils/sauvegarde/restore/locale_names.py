"""Find this host's name of a locale that the source spells in another way (French_France.1252)."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterable

from psycopg2.extensions import connection as Connection

from ..errors import SauvegardeError
from ..postgres import postgres_server
from ..system import process

# Encoding of a database → the codeset in the names of its locales, as glibc normalises it.
_CODESETS = {
    "UTF8": "utf8", "LATIN1": "iso88591", "LATIN2": "iso88592", "LATIN9": "iso885915", "LATIN5": "iso88599",
    "ISO_8859_5": "iso88595", "ISO_8859_7": "iso88597", "WIN1250": "cp1250", "WIN1251": "cp1251", "WIN1252": "cp1252",
    "WIN1258": "cp1258", "KOI8R": "koi8r", "EUC_JP": "eucjp", "EUC_KR": "euckr",
}  # fmt: skip
_LANGUAGES = {
    "arabic": "ar", "bulgarian": "bg", "catalan": "ca", "chinese": "zh", "croatian": "hr", "czech": "cs",
    "danish": "da", "dutch": "nl", "english": "en", "estonian": "et", "finnish": "fi", "french": "fr",
    "german": "de", "greek": "el",
    "hebrew": "he", "hungarian": "hu", "italian": "it", "japanese": "ja", "korean": "ko", "latvian": "lv",
    "lithuanian": "lt", "norwegian": "nb", "polish": "pl", "portuguese": "pt", "romanian": "ro", "russian": "ru",
    "serbian": "sr", "slovak": "sk", "slovenian": "sl", "spanish": "es", "swedish": "sv", "turkish": "tr",
    "ukrainian": "uk", "vietnamese": "vi",
}  # fmt: skip
_COUNTRIES = {
    "argentina": "AR", "australia": "AU", "austria": "AT", "belgium": "BE", "brazil": "BR", "bulgaria": "BG",
    "canada": "CA", "chile": "CL", "china": "CN", "colombia": "CO", "croatia": "HR", "czech republic": "CZ",
    "czechia": "CZ", "denmark": "DK", "estonia": "EE", "finland": "FI", "france": "FR", "germany": "DE", "greece": "GR",
    "hungary": "HU", "ireland": "IE", "israel": "IL", "italy": "IT", "japan": "JP", "korea": "KR", "latvia": "LV",
    "lithuania": "LT", "luxembourg": "LU", "mexico": "MX", "netherlands": "NL", "norway": "NO", "poland": "PL",
    "portugal": "PT", "romania": "RO", "russia": "RU", "serbia": "RS", "slovakia": "SK", "slovenia": "SI",
    "spain": "ES", "sweden": "SE", "switzerland": "CH", "taiwan": "TW", "turkey": "TR", "ukraine": "UA",
    "united kingdom": "GB", "united states": "US",
    "people's republic of china": "CN", "hong kong sar": "HK", "türkiye": "TR",
}  # fmt: skip
_PARTS = re.compile(r"([^.@]+)(?:\.([^@]*))?(?:@(.*))?")


def parts(name: str) -> tuple[str, str, str]:
    """Return (language and country, codeset, modifier) of a locale's name, equal for all spellings of it."""
    match = _PARTS.fullmatch(name)
    territory, codeset, modifier = match.groups() if match else (name, "", "")
    words = [re.sub(r" \(.*", "", word).lower() for word in re.split("[_-]", territory, maxsplit=1)]
    country = _COUNTRIES.get(words[-1], "")
    if words[0] in _LANGUAGES and country:
        territory = f"{_LANGUAGES[words[0]]}_{country}"
    codeset = re.sub("[^a-z0-9]", "", (codeset or "").lower())
    if codeset.startswith("8859"):
        codeset = "iso" + codeset
    elif codeset.isdigit():  # a code page of Windows
        codeset = "utf8" if codeset == "65001" else "cp" + codeset
    return territory.replace("-", "_").lower(), codeset, (modifier or "").lower()


def find(name: str, encoding: str, available: Iterable[str]) -> str:
    """Return the available name that is another spelling of a locale, for a database of that encoding; '' for none."""
    territory, codeset, modifier = parts(name)
    codesets = [codeset] if codeset else []
    # A name without a codeset, or with a code page of Windows, is used for databases in UTF-8 there.
    if encoding in _CODESETS and (not codeset or codeset.startswith("cp")):
        codesets.append(_CODESETS[encoding])
    for candidate in codesets:
        for other in sorted(available):
            if other != name and parts(other) == (territory, candidate, modifier):
                return other
    return ""


def available(connection: Connection) -> set[str]:
    """Return the names of this host's locales, as the server and the system know them."""
    rows = postgres_server.query(
        connection,
        "SELECT DISTINCT collcollate FROM pg_catalog.pg_collation WHERE collprovider = 'c' AND collcollate <> ''",
    )
    names = {name for (name,) in rows}
    with contextlib.suppress(SauvegardeError):  # a host without that program
        names.update(process.run([process.find("locale"), "-a"], timeout=30).text.split())
    return names


def similar(name: str, available: Iterable[str]) -> list[str]:
    """Return those of the available names that are of the same language."""
    language = parts(name)[0].split("_")[0]
    return sorted(other for other in available if parts(other)[0].split("_")[0] == language)
