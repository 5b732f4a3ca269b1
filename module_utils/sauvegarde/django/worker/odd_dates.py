"""Inside the site: dates that PostgreSQL holds and Python does not (infinity, years beyond 9999 or before 1).

psycopg2 reads infinity as Python's last (and first) date, so stock `dumpdata` writes that; so do we, and say so. For
psycopg 3, and for every other such date, stock stops; the error here names the model and how to find the rows.
"""

from ...errors import SauvegardeError

_ENDS = {
    (b"infinity", "DateTimeField"): b'"9999-12-31T23:59:59.999Z"',
    (b"infinity", "DateField"): b'"9999-12-31"',
    (b"-infinity", "DateTimeField"): b'"0001-01-01T00:00:00Z"',
    (b"-infinity", "DateField"): b'"0001-01-01"',
}


class Beyond(Exception):
    """A value of COPY's that is no date of Python's."""


def written(value, field, kind, connection):
    """The text of an infinite date as stock writes it; raises where stock stops. `kind`: of the column's values."""
    psycopg2 = hasattr(connection.connection, "get_dsn_parameters")
    text = _ENDS.get((value, kind)) if psycopg2 else None
    if text is None:
        raise unreadable(field.model, "{} is {}".format(field.name, value.decode("utf-8", "replace")))
    return text


def warning(label, name, count):
    """The sentence of an archive in which infinite dates were written as Python's last or first."""
    return f"{label}.{name}: infinity in {count} row(s) is written as 9999-12-31 or 0001-01-01, as stock dumpdata does."


def unreadable(model, why):
    """The error of a row that Python cannot read, with the way to find it."""
    meta = model._meta
    dates = [each for each in meta.local_fields if each.get_internal_type() in ("DateField", "DateTimeField")]
    query = ""
    if dates:
        quoted = ['"' + each.column.replace('"', '""') + '"' for each in (meta.pk, *dates)]
        wrong = [f"NOT {name} BETWEEN '0001-01-01' AND '9999-12-31'" for name in quoted[1:]]
        query = 'SELECT {} FROM "{}" WHERE {};'.format(", ".join(quoted), meta.db_table, " OR ".join(wrong))
    return SauvegardeError(
        f"A row of {meta.label_lower} holds a value that Python cannot read.",
        str(why),
        "Stock dumpdata stops there, too. Correct the rows. " + ("A date may be the reason: " + query if query else ""),
    )
