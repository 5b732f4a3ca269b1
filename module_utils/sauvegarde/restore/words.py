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


def of_plan(plan):
    """The plan as lines; a plan that could not be made has its obstacles only."""
    lines = []
    if "target" in plan:
        source, target, live = plan["source"], plan["target"], plan["live"]
        lines.append(
            "Source: {} {} (PostgreSQL {}), {}".format(
                source["form"], source["id"] or source["path"], source["version"] or "unknown", size(source["bytes"])
            )
        )
        if plan["lost"] is not None:
            lines.append("Age:    {}; what was written since is not in it".format(duration(plan["lost"])))
        lines.append("Target: {database} on {host} ({address}), PostgreSQL {version}".format(**target))
        if live:
            lines.append("Live:   {}, {} session(s)".format(size(live["bytes"]), len(live["sessions"])))
        else:
            lines.append("Live:   there is no such database yet")
        lines += ["Kept:   {} ({})".format(each["name"], size(each["bytes"])) for each in plan["kept"]]
        if plan["roles_made"]:
            lines.append("Roles:  made: " + ", ".join(plan["roles_made"]))
        lines.append("Takes:  about {}".format(duration(plan["expected"])))
    for each in plan["warnings"]:
        lines.append("Note:   " + " ".join(filter(None, [each["what"], each["why"]])))
    return lines + ["Stops:  " + text for text in of_obstacles(plan)]


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
