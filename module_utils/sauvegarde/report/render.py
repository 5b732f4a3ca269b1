"""A plan and a run's progress, for people."""


def size(count):
    """Bytes in the unit that a person would use."""
    number = float(count)
    for unit in ("B", "KiB", "MiB", "GiB"):
        if number < 1024 or unit == "GiB":
            return "{:.{}f} {}".format(number, 0 if unit == "B" else 1, unit)
        number /= 1024
    return ""


def duration(seconds):
    """90 → '1 min 30 s'; at most two units."""
    seconds = int(seconds)
    parts = [(seconds // 86400, "d"), (seconds // 3600 % 24, "h"), (seconds // 60 % 60, "min"), (seconds % 60, "s")]
    shown = [f"{number} {unit}" for number, unit in parts if number]
    return " ".join(shown[:2]) or "0 s"


def of_obstacles(plan):
    """One paragraph an obstacle, its fix at the end."""
    lines = []
    for each in plan["obstacles"]:
        lines.append(
            "\n".join(filter(None, [each["what"], each["why"].strip(), each["fix"] and "Fix: " + each["fix"]]))
        )
    return lines


_COUNTED = (
    "rows", "tables", "views", "materialized_views", "sequences", "indexes", "constraints", "triggers", "large_objects"
)  # fmt: skip
_KEPT = {"before": "Kept:", "restore": "Side:"}


def of_kept(kept):
    """The lines of what restores and swaps left beside a database (swap.kept's or files.kept's)."""
    return ["{}   {} ({})".format(_KEPT[each["kind"]], each["name"], size(each["bytes"])) for each in kept]


def _place(host, environment, standby, address=""):
    """' on db1 (production, standby) at 192.0.2.1'; '' where nothing is known, no address that is the name itself."""
    known = [environment, {True: "standby", False: "primary", None: ""}[standby]]
    about = ", ".join(filter(None, known))
    at = address if address != host else ""
    return (f" on {host}" if host else "") + (f" ({about})" if about else "") + (f" at {at}" if at else "")


def _change(extension):
    """'postgis 3.1.1 → 3.3.2'."""
    return "{name} {source} → {target}".format(**dict(extension, target=extension["target"] or "not available"))


def of_plan(plan, host="", environment="", environment_of_source="", address="", address_of_source=""):
    """The plan as lines; a plan that could not be made has its obstacles only.

    host: the target's name in the inventory; environment and address: its own and the source's, as the inventory says.
    """
    lines = []
    if "target" in plan:
        source, target, live, properties = plan["source"], plan["target"], plan["live"], plan["properties"]
        lines.append(
            "Source: {} {}{}{}, PostgreSQL {}, {}".format(
                source["form"],
                source["id"] or source["path"],
                " of " + source["database"] if source["database"] else "",
                _place(source["host"], environment_of_source, source["standby"], address_of_source),
                source["version"] or "unknown",
                size(source["bytes"]),
            )
        )
        if plan["lost"] is not None:
            lines.append("Age:    {}; what was written since is not in it".format(duration(plan["lost"])))
        else:
            lines.append("Age:    unknown, the dump does not say it; what was written since is not in it")
        lines.append(
            "Target: {}{}, {}, PostgreSQL {}".format(
                target["database"],
                _place(host or target["host"], environment, target["standby"], address),
                target["address"],
                target["version"],
            )
        )
        if live:
            lines.append("Live:   {}, {} session(s)".format(size(live["bytes"]), len(live["sessions"])))
        else:
            lines.append("Live:   there is no such database yet")
        lines += of_kept(plan["kept"])
        if plan["extensions"]:
            lines.append("Brings: " + ", ".join(map(_change, plan["extensions"])))
        as_the_server = "the server's own"
        lines.append(
            "Locale: {}, {}; owner {}".format(
                properties["encoding"] or as_the_server,
                properties["locale"] or properties["collate"] or as_the_server,
                properties["owner"] or as_the_server,
            )
        )
        if plan["roles_made"]:
            lines.append("Roles:  made: " + ", ".join(plan["roles_made"]))
        for each in plan["space"]:
            lines.append("Space:  {} of {} free on {}".format(size(each["needed"]), size(each["free"]), each["path"]))
        lines.append("Takes:  about {}".format(duration(plan["expected"])))
    lines += of_losses(plan.get("losses", ()))
    for each in plan["warnings"]:
        lines.append("Note:   " + " ".join(filter(None, [each["what"], each["why"], each["fix"]])))
    return lines + ["Stops:  " + text for text in of_obstacles(plan)]


def of_losses(losses):
    """One line for each accepted loss, of a plan or a run."""
    return [
        "Lost:   {}{}: {}".format(
            each["object"], " (kept {})".format(each["kept"]) if each["kept"] else "", each["why"].splitlines()[0]
        )
        for each in losses
        if each["accepted"]
    ]


def of_swap(run, result):
    """How a restore ended: its run's last state, and what the swap came to (swap.into_place's result)."""
    lines = []
    if "proof" in run:  # a migration has its own words for that
        proof = run["proof"]
        counted = ", ".join("{} {}".format(proof[key], key.replace("_", " ")) for key in _COUNTED if proof.get(key))
        lines.append("Proven: {} by {}, in {}".format(counted, proof["by"], duration(run["seconds"])))
        lines += of_losses(run.get("losses", ()))
        lines += ["Unproven: {object}, {why}".format(**each) for each in proof.get("unproven", ())]
        lines += ["Note:   " + each for each in run["notes"]]
    if run.get("mode") == "beside":
        lines.append("Beside: {} is there; nothing else was touched".format(run["database"]))
    else:
        before = "{} is what was live".format(result["kept"]) if result["kept"] else "there was none before"
        lines.append(
            "Live:   {}, after {} s and {} session(s) ended; {}".format(
                run["database"], result["seconds"], result["ended"], before
            )
        )
        lines += ["Note:   " + each for each in result.get("notes", ())]
    return lines


def of_progress(state):
    """One line about a run."""
    parts = ["{}: {}".format(state["database"], state["step"])]
    if state.get("bytes") and state.get("bytes_total"):
        parts.append("{} of about {}".format(size(state["bytes"]), size(state["bytes_total"])))
    if state.get("tables") is not None and state.get("tables_total"):
        parts.append("{} of {} tables".format(min(state["tables"], state["tables_total"]), state["tables_total"]))
    expected, elapsed = state.get("expected") or 0, state["elapsed"]
    parts.append(duration(elapsed) + (f" of about {duration(expected)}" if expected > elapsed else ""))
    return " · ".join(parts)
