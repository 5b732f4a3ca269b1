"""Describe what the commands print with `--json`, and their exit codes: docs/reference is generated from here.

Keys stay: a later version adds some, and neither renames one nor removes it.
"""

# One document, on stdout; the same is the run's report.json.
DOCUMENT = {
    "run": "Id of the run; `./sauvegarde report ID` shows it again.",
    "command": "Name of the command.",
    "user": "Who typed it.",
    "started": "When, in UTC.",
    "ended": "When it ended, in UTC.",
    "seconds": "How long it took.",
    "typed": "The words of the command line, without secrets.",
    "inventories": "The inventories that it used.",
    "exit_code": "The exit code; see [exit codes](exit-codes.md).",
    "error": "`what`, `why` and `fix` of what failed; null if nothing did.",
    "result": "What the command returns; see below.",
    "next": "The commands to type next.",
    "steps": "The tasks that ran, each with `task`, `playbook` and `seconds`.",
    "log": "Path of the log.",
}

_ARCHIVE = (
    "`host`, `job`, `id`, `kind`, `source`, `system`, `started`, `ended`, `bytes` (unpacked), `stored_bytes`,"
    " `verified` (false: damaged), `problem`, `warnings`, `lacks`, `proven`, `unproven`, `where` (`local`: on its own"
    " host) and `path`"
)
_LIST = {
    "archives": f"The archives, the jobs that need attention first; each has {_ARCHIVE}.",
    "databases": "Databases that restores left, the largest first, as entries of the same form.",
    "unread": "Hosts that did not answer.",
    "problems": "What could not be listed: `host`, `what`, `why` and `fix`.",
    "without_job": "Databases that no job names: `host`, `server` and `database`.",
    "losses": "What a restored database was restored without: `host`, `database`, `id` and `objects`.",
}
_STATUS = {
    "jobs": (
        "The jobs, those that are not well first: `host`, `job`, `kind`, `state`, `why`, `is_well`, `schedule`, `due`,"
        " `archive`, `last_success`, `age`, `seconds`, `stored_bytes`, `growth`, `last_failure`, `is_failing` and"
        " `may_fail`. Times are seconds since the epoch."
        " A host that did not answer is an entry with the state `no answer`."
    ),
    "is_well": "Whether there are jobs, and all are well.",
}
# {command: {key of `result`: meaning}}
RESULTS: dict[str, dict[str, str]] = {
    "backup": {"HOST": "`{JOB: {failed, seconds}}` of the jobs that ran on it."},
    "cleanup": {"kept": "`{HOST: [...]}`: the databases that are left, each with `name`, `kind`, `id` and `bytes`."},
    "doctor": {
        "findings": (
            "The findings, errors first: `code` (see [doctor](doctor.md)), `host`, `name` (of a job, repository or"
            " program), `is_error`, `what`, `why` and `fix`."
        ),
        "is_well": "Whether there is no error among them.",
    },
    "fixtures": {"TASK": "`{HOST: value}` of what the playbook shows."},
    "init": {
        "directory": "The new inventory.",
        "files": "Its files.",
        "password_file": "The file with the vault's password; empty if it was typed.",
        "public_key": "The key that the account for copies must let in; empty without sftp.",
        "host_key_known": "Whether the key of the copies' host is known.",
        "copies_host": "The host that copies go to by sftp.",
        "escrow": "Where the vault's password is kept besides this machine.",
    },
    "list": _LIST,
    "migrate": {"TASK": "`{HOST: value}` of what the playbook shows."},
    "overview": {
        "catalog": "As `result` of `list`.",
        "status": "As `result` of `status`.",
    },
    "plan": {"plan": "`{HOST: plan}`."},
    "policy": {"TASK": "`{HOST: value}` of what the playbook shows."},
    "restore": {
        "plan": "`{HOST: plan}`.",
        "restored": "`{HOST: ...}`: `id`, `kept`, `proof`, `seconds` and `steps`.",
    },
    "rollback": {
        "restored": "The database that is live again.",
        "kept": "The name of the one that was live.",
        "seconds": "How long clients were kept out.",
        "ended": "Sessions that were ended.",
    },
    "show": {
        "places": "Where the archive is, as entries of `list`.",
        "manifest": "Its [manifest](manifest.md); null where it cannot be read.",
        "live": (
            "How the live database differs: `database`, `equal` (number of tables), `differing` (`table`,"
            " `archive_rows`, `live_rows`, `sentence`) and `omitted`; null where it was not compared."
        ),
        "live_problem": "Why the live database was not compared.",
    },
    "status": _STATUS,
}

EXIT_CODES = {
    0: "All is done, or all is well.",
    1: "Failed, or not all is well (`status`, `doctor`, `plan` with a blocker).",
    2: "Usage: a wrong or missing option, a wrong name, an id that several archives have.",
    3: "Partial: some hosts, places or later steps failed.",
    10: "There is no repository at this address.",
    11: "Another run, or a lock, stands in the way.",
    12: "The password does not open the repository.",
    13: "The database server refused the login.",
    14: "An archive is damaged.",
    124: "A time limit ended the work.",
    130: "Ctrl-C.",
}
