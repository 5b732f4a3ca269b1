"""Find Ansible's deprecation warnings in the log of a test run: each fails the tests.

The log is what ansible-core writes where ANSIBLE_LOG_PATH says, every playbook of a run into the same file.
"""

import re
from pathlib import Path

# Warnings of others, which this project cannot change: expressions for their first words, each with its reason.
EXEMPT: tuple[str, ...] = (
    # pytest-testinfra runs `ansible --tree` for the modules that a test calls (host.ansible).
    r"The '--tree' argument is deprecated",
    r"The tree callback plugin is deprecated",
)

RECORD = re.compile(r"^\d{4}-\d\d-\d\d [\d:,]+ p=\d+ u=.*? n=\S+ [A-Z]+\| ", re.MULTILINE)
MARK = "[DEPRECATION WARNING]: "


def deprecations(text: str) -> tuple[str, ...]:
    """Return the deprecation warnings in a log, each once, without the exempted."""
    warnings = []
    for record in RECORD.split(text):
        before, mark, warning = record.partition(MARK)
        if mark and not before.strip() and not any(re.match(pattern, warning) for pattern in EXEMPT):
            warnings.append(warning.strip())
    return tuple(dict.fromkeys(warnings))


def read_deprecations(log: Path) -> tuple[str, ...]:
    """Return the deprecation warnings in a log; none where nothing was logged."""
    return deprecations(log.read_text(errors="replace")) if log.is_file() else ()
