"""Schedules and the file that cron reads."""

import subprocess

import pytest
from sauvegarde.backup import schedule
from sauvegarde.errors import SauvegardeError


@pytest.mark.parametrize(
    "text",
    ["15 2 * * *", "*/5 * * * *", "0 0-6/2 1,15 * mon-fri", "  1  2 3  jan 7 ", "59 23 31 12 0"],
)
def test_expressions_that_cron_knows(text):
    assert schedule.check(text) == " ".join(text.split())


@pytest.mark.parametrize(
    "text",
    [
        "60 * * * *",
        "* 24 * * *",
        "* * 0 * *",
        "* * * 13 *",
        "* * * * 8",
        "* * * *",
        "* * * * * *",
        "@reboot",
        "5/10 * * * *",
        "*/0 * * * *",
        "5-1 * * * *",
        "dayly",
        "",
        "1 2 * * * root rm",
        "1 2 * *\n* * * * *",
        "%d * * * *",
    ],
)
def test_expressions_that_cron_would_refuse_or_misread(text):
    with pytest.raises(SauvegardeError):
        schedule.check(text)


@pytest.mark.parametrize("word", schedule.WORDS)
def test_words_are_spread_and_steady(word):
    times = {schedule.expression(word, f"db{number}", "offers") for number in range(200)}
    assert len(times) > 40
    for text in times:
        schedule.check(text)
    assert schedule.expression(word, "db1", "offers") == schedule.expression(word, "db1", "offers")
    assert schedule.expression(word, "db1", "offers") != schedule.expression(word, "db1", "globals")


def crontab(**changes):
    entry = dict({"job": "offers", "schedule": "1 2 * * *", "action": "run"}, **changes)
    return schedule.crontab([entry], "db1", "/usr/local/sbin/sauvegarde", header=["Managed by Ansible"])


def test_the_file_is_as_cron_wants_it():
    text = crontab()
    assert text.endswith("\n") and not text.endswith("\n\n")
    assert text.splitlines()[-1] == ("1 2 * * * root umask 077; exec /usr/local/sbin/sauvegarde run offers")
    assert "\nMAILTO=root\n" in text and "\nLC_ALL=C.UTF-8\n" in text and "\nPATH=/usr/local/sbin:" in text


def test_the_line_runs_as_cron_runs_it(tmp_path):
    """Fault 22: the very line, with nothing in the environment but what the file sets."""
    runner = tmp_path / "sauvegarde"
    runner.write_text(
        "#!/usr/bin/python3 -I\nimport os, sys\n"
        "print(sys.argv[1:], sys.flags.isolated, oct(os.umask(0)), sorted(os.environ))\n"
    )
    runner.chmod(0o755)
    entry = {"job": "offers", "schedule": "* * * * *", "action": "run"}
    text = schedule.crontab([entry], "db1", str(runner), mailto="")
    settings = [line for line in text.splitlines() if "=" in line.split(" ")[0]]
    command = text.splitlines()[-1].split(" ", 6)[6]
    settings = [line.replace('""', "") for line in settings]
    done = subprocess.run(
        ["env", "-i", *settings, "/bin/sh", "-c", command], capture_output=True, text=True, check=True
    )
    assert done.stdout.startswith("['run', 'offers'] 1 0o77 ")
    assert "'LC_ALL', 'MAILTO', 'PATH'" in done.stdout


@pytest.mark.parametrize(
    "changes",
    [
        {"job": "a%b"},
        {"job": "a b"},
        {"job": "$(x)"},
        {"job": "a\nb"},
        {"action": ";"},
    ],
)
def test_nothing_that_cron_would_eat_gets_in(changes):
    with pytest.raises(SauvegardeError):
        crontab(**changes)
