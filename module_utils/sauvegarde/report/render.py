"""Render plans, results and progress of restores as lines for people.

Plans and states arrive as the JSON that modules return: see restore_plan.Plan.as_dict and restore_state.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

JSON = Mapping[str, Any]
_COUNTS = (
    "rows", "tables", "views", "materialized_views", "sequences", "indexes", "constraints", "triggers", "large_objects"
)  # fmt: skip
_LABELS = {"before": "Previous:", "restore": "Side:"}  # of databases that restores and swaps keep
_SERVERS_OWN = "the server's own"
_MOST_CHANGES = 6  # tables that a plan names


def size(count: float) -> str:
    """Return bytes in the unit that a person would use."""
    number = float(count)
    for unit in ("B", "KiB", "MiB"):
        if number < 1024:
            return f"{number:.{0 if unit == 'B' else 1}f} {unit}"
        number /= 1024
    return f"{number:.1f} GiB"


def duration(seconds: float) -> str:
    """Return 90 as '1 min 30 s'; at most two units."""
    seconds = int(seconds)
    parts = [(seconds // 86400, "d"), (seconds // 3600 % 24, "h"), (seconds // 60 % 60, "min"), (seconds % 60, "s")]
    texts = [f"{number} {unit}" for number, unit in parts if number]
    return " ".join(texts[:2]) or "0 s"


def of_obstacles(plan: JSON) -> list[str]:
    """Return one paragraph a blocker of the plan, its fix at the end."""
    return [
        "\n".join(filter(None, [blocker["what"], blocker["why"].strip(), blocker["fix"] and f"Fix: {blocker['fix']}"]))
        for blocker in plan["obstacles"]
    ]


def blocked_lines(plan: JSON) -> list[str]:
    """Return the last lines of a plan: what keeps it from being carried out."""
    return [f"BLOCKED: {text}" for text in of_obstacles(plan)]


def mark_lines(plan: JSON, prefix: str) -> list[str]:
    """Return the line with a plan's mark, if it has one. prefix: of the playbook's variables."""
    if not plan.get("mark"):
        return []
    return ["Mark:   {0} (-e {1}_plan_mark={0} carries out this plan and no other)".format(plan["mark"], prefix)]


def of_kept(kept: Iterable[JSON]) -> list[str]:
    """Return a line for each database that restores and swaps left beside a database."""
    return [f"{_LABELS[database['kind']]:<7} {database['name']} ({size(database['bytes'])})" for database in kept]


def _place(host: str, environment: str, standby: bool | None, address: str = "") -> str:
    """Return ' on db1 (production, standby) at 192.0.2.1'; '' where nothing is known, no address that is the name."""
    role = {True: "standby", False: "primary", None: ""}[standby]
    about = ", ".join(filter(None, (environment, role)))
    at = address if address != host else ""
    return (f" on {host}" if host else "") + (f" ({about})" if about else "") + (f" at {at}" if at else "")


def of_plan(
    plan: JSON,
    host: str = "",
    environment: str = "",
    environment_of_source: str = "",
    address: str = "",
    address_of_source: str = "",
) -> list[str]:
    """Return the plan as lines; a plan that could not be completed has its blockers only.

    host: the target's name in the inventory; environment and address: its own and the source's, as the inventory says.
    """
    lines = []
    if "target" in plan:
        target = plan["target"]
        place = _place(host or target["host"], environment, target["standby"], address)
        lines += [
            _source_line(plan["source"], environment_of_source, address_of_source),
            _age_line(plan["lost"], plan["source"].get("data_as_of") or plan["source"].get("made") or ""),
            *of_changes(plan.get("changes")),
            f"Target: {target['database']}{place}, {target['address']}, PostgreSQL {target['version']}",
            *_details(plan),
        ]
    lines += of_losses(plan.get("losses", ()))
    for note in plan["warnings"]:
        lines.append("Note:   " + " ".join(filter(None, [note["what"], note["why"], note["fix"]])))
    return lines + mark_lines(plan, "restore") + blocked_lines(plan)


def _source_line(source: JSON, environment: str, address: str) -> str:
    database = f" of {source['database']}" if source["database"] else ""
    place = _place(source["host"], environment, source["standby"], address)
    version = source["version"] or "unknown"
    name = source["id"] or source["path"]
    origin = f" from {source['server']}" if source.get("server") else ""
    as_of = f", data as of {source['data_as_of'][:19]}Z" if source.get("data_as_of") else ""
    about = f"PostgreSQL {version}, {size(source['bytes'])}{as_of}"
    return f"Source: {source['form']} {name}{database}{origin}{place}, {about}"


def _age_line(seconds: float | None, moment: str) -> str:
    if seconds is None or not moment:
        return "Age:    unknown, the dump does not say it; what was written since is lost"
    return f"Age:    {duration(seconds)}; everything written after {moment[:19].replace('T', ' ')} UTC is lost"


def of_changes(changes: JSON | None) -> list[str]:
    """Return how the live database differs from the archive, a line a table; the greatest differences first."""
    if changes is None:
        return []

    def weight(table: JSON) -> int:
        return abs(int(table["live_rows"] or 0) - int(table["archive_rows"] or 0))

    tables = sorted(changes["tables"], key=weight, reverse=True)
    lines = ["Change: " + _change(table) for table in tables[:_MOST_CHANGES]]
    if tables[_MOST_CHANGES:]:
        lines.append(f"Change: {len(tables) - _MOST_CHANGES} more tables differ")
    if not tables and changes["compared"]:
        lines.append(f"Change: none; archive and live database are equal in {_tables(changes['compared'])}")
    if changes["omitted"]:
        names = ", ".join(changes["omitted"][:3]) + (" …" if changes["omitted"][3:] else "")
        lines.append(
            f"Change: not known of {_tables(len(changes['omitted']))}, too large to compare in a plan: {names}"
        )
    return lines


def _tables(count: int) -> str:
    return f"{count} table" + ("" if count == 1 else "s")


def _change(table: JSON) -> str:
    name, archived, live = table["table"], table["archive_rows"], table["live_rows"]
    if archived is None:
        return f"{name} ({live} rows) is not in the archive"
    if live is None:
        return f"{name} ({archived} rows) is missing in the live database"
    if live > archived:
        return f"{live - archived} rows of {name} are newer ({live} in the live database, {archived} in the archive)"
    if live < archived:
        return f"{archived - live} rows of {name} come back ({live} in the live database, {archived} in the archive)"
    return f"{name} has other contents in its {live} rows"


def _details(plan: JSON) -> list[str]:
    live, properties = plan["live"], plan["properties"]
    lines = ["Live:   there is no such database yet"]
    if live:
        lines = [f"Live:   {size(live['bytes'])}, {len(live['sessions'])} session(s)"]
    lines += of_kept(plan["kept"])
    if plan["extensions"]:
        changes = [
            f"{each['name']} {each['source']} → {each['target'] or 'not available'}" for each in plan["extensions"]
        ]
        lines.append("Extensions: " + ", ".join(changes))
    encoding = properties["encoding"] or _SERVERS_OWN
    locale = properties["locale"] or properties["collate"] or _SERVERS_OWN
    lines.append(f"Locale: {encoding}, {locale}; owner {properties['owner'] or _SERVERS_OWN}")
    if plan["roles_made"]:
        lines.append("Roles:  made: " + ", ".join(plan["roles_made"]))
    for each in plan["space"]:
        lines.append(f"Space:  {size(each['needed'])} of {size(each['free'])} free on {each['path']}")
    lines.append(f"Estimate: {duration(plan['expected'])}")
    return lines


def of_losses(losses: Iterable[JSON]) -> list[str]:
    """Return one line for each accepted loss, of a plan or a run."""
    # The rows of an extension that is left out go without saying: there are none.
    return [
        _loss_line(loss)
        for loss in losses
        if loss["accepted"] and (loss["kept"] != "left out" or loss["object"].startswith("EXTENSION "))
    ]


def _loss_line(loss: JSON) -> str:
    why = loss["why"].splitlines()[0]
    if loss["kept"] == "left out":
        return f"Left out: {loss['object']}: {why}"
    return f"Lost:   {loss['object']}{' (kept {})'.format(loss['kept']) if loss['kept'] else ''}: {why}"


def of_swap(run: JSON, result: JSON) -> list[str]:
    """Return how a restore ended. run: its last state; result: what its swap returned."""
    lines = []
    if "proof" in run:  # a migration reports its own
        proof = run["proof"]
        counts = ", ".join(f"{proof[key]} {key.replace('_', ' ')}" for key in _COUNTS if proof.get(key))
        lines.append(f"Proven: {counts} by {proof['by']}, in {duration(run['seconds'])}")
        lines += of_losses(run.get("losses", ()))
        lines += [f"Unproven: {each['object']}, {each['why']}" for each in proof.get("unproven", ())]
        lines += [f"Note:   {note}" for note in run["notes"]]
    if run.get("mode") == "beside":
        lines.append(f"Restored as: {run['database']}; nothing else was changed")
    else:
        previous = f"the previous database is {result['kept']}" if result["kept"] else "there was no previous database"
        lines.append(
            f"Live:   {run['database']}, after {result['seconds']} s and {result['ended']} session(s) ended; {previous}"
        )
        lines += [f"Note:   {note}" for note in result.get("notes", ())]
    return lines


def of_progress(state: JSON) -> str:
    """Return one line about a run."""
    parts = [f"{state['database']}: {state['step']}"]
    if state.get("bytes") and state.get("bytes_total"):
        parts.append(f"{size(state['bytes'])} of about {size(state['bytes_total'])}")
    if state.get("tables") is not None and state.get("tables_total"):
        parts.append(f"{min(state['tables'], state['tables_total'])} of {state['tables_total']} tables")
    expected, elapsed = state.get("expected") or 0, state["elapsed"]
    parts.append(duration(elapsed) + (f" of about {duration(expected)}" if expected > elapsed else ""))
    return " · ".join(parts)
