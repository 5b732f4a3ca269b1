"""Guess from the names of models and fields which personal data they hold."""

from __future__ import annotations

import re
from collections.abc import Container, Mapping
from typing import Any

from .field_masks import PEOPLE

_DROPPED = re.compile(
    r"\A(sessions\.|authtoken\.|admin\.logentry|account\.emailconfirmation|otp_|axes\.)|token\Z|session\Z"
)
_BY_NAME = (
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
)
# Models whose rows are people, by the names of the models: there a plain "name" is a person's name, too.
_OF_PEOPLE = re.compile(
    r"(author|auteur|candidat|candidate|applicant|client|contact|contributor|customer|employee|member|membre|owner|patient"
    r"|people|person|personne|player|profile|recruiter|recruteur|speaker|staff|student|subscriber|teacher|user)s?\Z"
)
_PLAIN_NAME = re.compile(r"\A(name|nom|display_name)\Z")
NUMBERS = ("IntegerField", "BigIntegerField", "SmallIntegerField", "PositiveIntegerField", "PositiveBigIntegerField")


def mask_by_name(field: Mapping[str, Any], name: str, label: str = "") -> str:
    """Return the mask that the name of the field, in the model `label`, suggests, or ""."""
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


def is_of_people(label: str) -> bool:
    """Return whether the name of the model says that its rows are people."""
    return bool(_OF_PEOPLE.search(label))


def is_account_data(label: str) -> bool:
    """Return whether the model holds sessions, tokens or logs of accounts, whose rows a draft drops."""
    return bool(_DROPPED.search(label))


def is_personal(name: str) -> bool:
    """Return whether a field of this name holds personal data of any kind."""
    return any(re.search(pattern, name.lower()) for pattern, _ in _BY_NAME)


def name_fields(
    description: Mapping[str, Mapping[str, Any]], masks: Container[str] = PEOPLE
) -> dict[str, dict[str, str]]:
    """Return {label: {field: mask}} of the fields that hold names of people, in dropped models too.

    `masks`: the masks that count as such.
    """
    fields: dict[str, dict[str, str]] = {}
    for label, facts in description.items():
        for name, field in facts["fields"].items():
            how = "" if field.get("relation") or field.get("nested") else mask_by_name(field, name, label)
            if how in masks:
                fields.setdefault(label, {})[name] = how
    return fields
