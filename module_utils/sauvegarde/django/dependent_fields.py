"""Find the fields that other rows of a site depend on, from the description of its models."""

from .fixture_stream import NUMBERED


def dependence(description):
    """{(label, field): why other rows depend on the field's value}.

    These fields are part of a natural key by which others refer to the row, the target of a reference that is not the
    primary key, part of a generic reference, or part of a tree. A computed natural key may be made of any text of the
    row, so all of them count.
    """
    found = {}
    for label, facts in description.items():
        for name, field in facts["fields"].items():
            if field.get("tree"):
                found[label, name] = f"it belongs to {field['tree']}"
            elif field.get("reference"):
                found.setdefault((label, name), field["reference"])
            relation = field.get("relation")
            if relation and relation[0] not in NUMBERED and relation[0] in description:
                target = description[relation[0]]
                why = f"{label}.{name} refers to its rows by it"
                parts = field["natural_key"] if "natural_key" in field else target["natural_key"]
                if parts == []:
                    for part, facts_of in target["fields"].items():
                        if facts_of.get("text") and not facts_of.get("relation"):
                            found.setdefault(
                                (relation[0], part), f"{label}.{name} refers to its rows by a computed key"
                            )
                for part in [relation, *(parts or ())]:
                    if part[0] in description and (part[0] != relation[0] or part[1] != target["pk"]):
                        found.setdefault((part[0], part[1]), why)
    return found
