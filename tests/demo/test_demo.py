"""The demo whole, as a user starts it; then docs/runbook.md as written, on the hosts that the demo leaves. In order."""

import re
import subprocess

import pytest

from sauvegarde_cli import demo
from sauvegarde_cli.system import ROOT

OFFERS = 2000  # of inventories/demo/host_vars/prod.yml
HEADING = re.compile(r"^## (.*)$", re.MULTILINE)
BLOCK = re.compile(r"^```sh\n(.*?)^```$", re.MULTILINE | re.DOTALL)


@pytest.fixture(scope="session")
def whole_demo():
    """(exit code, output) of the demo; its hosts stand until all tests are done."""
    command = [ROOT / "sauvegarde", "demo", "--keep"]
    lines = []
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as running:
        for line in running.stdout:
            print(line, end="", flush=True)
            lines.append(line)
    yield running.returncode, "".join(lines)
    subprocess.run([ROOT / "sauvegarde", "demo", "--destroy"], check=True)


@pytest.fixture(scope="session")
def runbook(whole_demo):
    """Run the blocks of one of the runbook's sections in one shell, as somebody would who has typed the first section;
    returns what it printed. Lines `name=value` may be given other values."""
    assert whole_demo[0] == 0, "the demo has failed"
    text = (ROOT / "docs/runbook.md").read_text()
    parts = HEADING.split(text)
    sections = {title: BLOCK.findall(body) for title, body in zip(parts[1::2], parts[2::2], strict=True)}
    (names,) = sections["1. Say which site this is"]

    def run(title, block=0, **values):
        lines = sections[title][block]
        for name, value in values.items():
            lines, result = re.subn(rf"^{name}=\S+", f"{name}={value}", lines, flags=re.MULTILINE)
            assert result == 1
        done = subprocess.run(
            ["bash", "-euc", names + lines],
            cwd=ROOT,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stdout
        return done.stdout

    return run


def offers(database=demo.DATABASE):
    """How many offers a database on the standby has."""
    return int(demo.sql("standby", "SELECT count(*) FROM offers_offer", database))


def kept():
    """The databases that swaps have left on the standby, oldest first."""
    query = f"SELECT datname FROM pg_database WHERE datname LIKE '{demo.DATABASE}\\_\\_before\\_%' ORDER BY 1"
    return demo.sql("standby", query, "postgres").split()


def test_the_demo_shows_every_step(whole_demo):
    code, output = whole_demo
    assert code == 0
    shown = re.findall(r"^(\d+)/(\d+)  ", output, re.MULTILINE)
    count = len(demo.Demo.STEPS)
    assert [int(number) for number, _ in shown] == list(range(1, count + 1))
    assert output.count("✓") == count
    steps, summary = re.split(r"^All of it in \d+ s$", output, maxsplit=1, flags=re.MULTILINE)
    for sentence in re.findall(r"^✓ (.*) \(\d+ s\)$", steps, re.MULTILINE):
        assert sentence[:30] in summary and sentence.split()[-1] in summary, sentence
    assert demo.HINTS in summary


def test_production_is_lost_and_its_data_are_there(whole_demo):
    remaining = {one.host for one in demo.podman.hosts() if one.scenario == demo.SCENARIO}
    assert remaining == {"standby", "vault", "dev"}
    assert offers() == OFFERS
    assert int(demo.sql("standby", "SELECT count(*) FROM territories_town WHERE ST_IsValid(location)")) > 0


def test_the_developer_has_all_offers_and_a_site_that_works(whole_demo):
    code = "from offers.models import Offer; from django.test import Client; "
    code += "print(Offer.objects.count(), Client(SERVER_NAME='localhost').get('/').status_code)"
    manage = "cd /srv/cap/site && sudo -u cap /srv/cap/venv/bin/python manage.py"
    assert demo.ssh("dev", f'{manage} shell -c "{code}"').split()[-2:] == [str(OFFERS), "200"]


def test_the_list_of_the_runbook(runbook):
    output = runbook("2. See what there is")
    assert "prod could not be asked" in output
    rows = [line for line in output.splitlines() if re.search(r"prod +elpaso +\d{8}T\d{6}Z .* vault +good", line)]
    assert len(rows) >= 2, output


def test_the_plan_of_the_runbook(runbook):
    demo.sql("standby", "TRUNCATE offers_offer CASCADE")
    output = runbook("3. Plan")
    text = " ".join(output.split())
    assert re.search(r"Source: archive \S+ of elpaso on prod \(production, primary\), ", text), output
    assert "Target: elpaso on standby (primary), " in text and "Age:" in text
    assert offers() == 0


def test_the_restore_of_the_runbook(runbook):
    runbook("4. Restore")
    assert offers() == OFFERS


def test_the_looks_of_the_runbook(runbook):
    assert str(OFFERS) in runbook("5. Look", 0)
    runbook("5. Look", 1)
    assert "elpaso" in demo.ssh("standby", "sudo ls /var/backups/sauvegarde")


def test_the_way_back_of_the_runbook(runbook):
    runbook("6. If it was wrong: go back", 0)
    assert offers() == 0
    runbook("6. If it was wrong: go back", 1)
    assert offers() == OFFERS


def test_the_cleanup_of_the_runbook(runbook):
    before = kept()
    assert len(before) >= 2
    output = runbook("7. When all is well: remove what was kept", 0)
    assert all(name in output for name in before)
    runbook("7. When all is well: remove what was kept", 1, kept=before[0])
    assert kept() == before[1:]
    assert offers() == OFFERS


def test_a_look_into_last_night(runbook):
    runbook("If production is not gone, but its data are")
    assert offers(f"{demo.DATABASE}_last_night") == OFFERS


def test_without_keep_nothing_stays(whole_demo, monkeypatch, capsys):
    """After all steps, none of which is taken here once more; the last test, since it takes the hosts away."""
    monkeypatch.setattr(demo.Demo, "STEPS", ())
    assert demo.run() == 0
    output = capsys.readouterr().out
    assert "All of it in 0 s" in output and "--keep leaves the hosts" in output and demo.HINTS not in output
    assert not [one for one in demo.podman.hosts() if one.scenario == demo.SCENARIO]
