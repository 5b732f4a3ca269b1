"""The demo whole, as a user starts it; then the commands of the pages, on the hosts that the demo leaves. In order."""

import re
import shlex
import subprocess

import pytest
from pseudo_terminal import Terminal

from sauvegarde_cli import demo, pages
from sauvegarde_cli.system import ROOT

OFFERS = 2000  # of inventories/demo/host_vars/prod.yml
CHANGE = "UPDATE offers_offer SET views = views + 1 WHERE id % 3 = 1"
DELETION = """
DELETE FROM offers_offer_places WHERE offer_id % 3 = 0; DELETE FROM offers_offer_technologies WHERE offer_id % 3 = 0;
DELETE FROM offers_offer WHERE id % 3 = 0
"""


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


@pytest.fixture
def typed(whole_demo):
    """Run a block of a page in a shell where the first line of its page was typed; returns what it printed. Lines
    `name=value` may be given other values."""
    assert whole_demo[0] == 0, "the demo has failed"

    def run(block, **values):
        lines = block.text
        for name, value in values.items():
            lines, result = re.subn(rf"^{name}=\S+", f"{name}={value}", lines, flags=re.MULTILINE)
            assert result == 1
        settings = pages.blocks(block.page)[0].text.splitlines()[0]
        done = subprocess.run(
            ["bash", "-euc", f"{settings}\n{lines}"],
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


def as_postgres(block):
    """Run a block on the standby as its superuser, in a folder of its own that stays."""
    lines = "mkdir -p /tmp/rows && cd /tmp/rows\n" + block.text
    return demo.ssh("standby", "sudo -u postgres bash -euo pipefail", stdin=lines)


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


def test_the_list(page_blocks, typed):
    (block,) = page_blocks
    output = typed(block)
    assert "prod could not be asked" in output
    rows = [line for line in output.splitlines() if re.search(r"prod +elpaso +\d{8}T\d{6}Z .* vault +good", line)]
    assert len(rows) >= 2, output


def test_the_plan(page_blocks, typed):
    demo.sql("standby", "TRUNCATE offers_offer CASCADE")
    (block,) = page_blocks
    output = typed(block)
    text = " ".join(output.split())
    assert re.search(r"Source: archive \S+ of elpaso on prod \(production, primary\), ", text), output
    assert "Target: elpaso on standby (primary), " in text and "Age:" in text
    assert offers() == 0


def test_the_restore(page_blocks, typed):
    (block,) = page_blocks
    typed(block)
    assert offers() == OFFERS


def test_the_look(page_blocks, typed):
    (block,) = page_blocks
    assert str(OFFERS) in typed(block)
    assert "elpaso" in demo.ssh("standby", "sudo ls /var/backups/sauvegarde")


def test_the_way_back(page_blocks, typed):
    (block,) = page_blocks
    typed(block)
    assert offers() == 0
    typed(block)
    assert offers() == OFFERS


def test_the_cleanup(page_blocks, typed):
    listing, removal = page_blocks
    before = kept()
    assert len(before) >= 2
    output = typed(listing)
    assert all(name in output for name in before)
    typed(removal, kept=before[0])
    assert kept() == before[1:]
    assert offers() == OFFERS


def test_a_restore_beside(page_blocks, typed):
    (block,) = page_blocks
    typed(block)
    assert offers("elpaso_before") == OFFERS


def test_rows_come_back(page_blocks):
    """Rows are deleted, with what refers to them, and others changed since the archive: the deleted return, no more."""
    (copy,) = page_blocks
    demo.sql("standby", CHANGE)
    before = demo.sql("standby", demo.CONTENTS)
    demo.sql("standby", DELETION)
    assert 0 < offers() < OFFERS
    sequence = demo.sql("standby", "SELECT nextval('offers_offer_id_seq')")
    as_postgres(copy)
    assert demo.sql("standby", demo.CONTENTS) == before
    assert int(demo.sql("standby", "SELECT nextval('offers_offer_id_seq')")) == int(sequence) + 1


@pytest.fixture
def stalled_load(whole_demo):
    """Stop a restore on the standby in the middle of its load; returns a function that waits until it has stopped."""
    load = "[p]g_restore .*__restore_"
    stop = f"until pkill --signal STOP --full '{load}'; do sleep 0.01; done"
    demo.ssh("standby", "sudo systemd-run --quiet --collect --unit=stall sh -c " + shlex.quote(stop))
    stopped = "until ps -C pg_restore -o stat= | grep -q T; do sleep 0.1; done"
    yield lambda: demo.ssh("standby", f"timeout 120 sh -c {shlex.quote(stopped)}")
    demo.ssh("standby", f"sudo systemctl stop stall; sudo pkill --signal CONT --full '{load}'; true")


def test_a_restore_asks_and_ctrl_c_in_its_load_says_the_truth(stalled_load):
    """On a real terminal: database, archive, target, plan, name; then Ctrl-C, and the command that it prints."""
    demo.sql("standby", demo.LATE)
    live = demo.sql("standby", demo.CONTENTS)
    terminal = Terminal(ROOT / "sauvegarde", "restore", "-i", demo.INVENTORY, cwd=ROOT)
    terminal.wait_for("Which database?")
    terminal.wait_for("Number [1]:")
    (number,) = re.findall(r"^ +(\d+)  elpaso on prod: ", terminal.shown, re.MULTILINE)
    terminal.type(number)
    terminal.wait_for("Which archive of elpaso on prod?")
    terminal.wait_for("UTC, ")
    terminal.wait_for("Number [1]:")
    terminal.type("")
    terminal.wait_for("Restore onto which host?")
    terminal.wait_for("Number [1]:")
    terminal.type("prod")
    terminal.wait_for("'prod' is not one of them.")
    terminal.type("standby")
    terminal.wait_for("UTC is lost")
    terminal.wait_for(f"public.offers_offer has other contents in its {OFFERS} rows")
    terminal.wait_for("type elpaso@standby: ")
    terminal.type("elpaso@standby")
    stalled_load()
    terminal.wait_for("standby: elpaso: ")
    terminal.interrupt()
    code, shown = terminal.end()
    assert code == 130, shown
    assert "The live database is untouched. The load goes on on the host" in " ".join(shown.split())
    assert demo.sql("standby", demo.CONTENTS) == live
    assert "T" in demo.ssh("standby", "ps -C pg_restore -o stat="), "the run on the host has not ended"
    (again,) = re.findall(r"^Next: +(.*)$", shown, re.MULTILINE)
    assert "--confirm elpaso@standby" in again

    demo.ssh("standby", "sudo systemctl stop stall; sudo pkill --signal CONT --full '[p]g_restore .*__restore_'")
    done = subprocess.run(
        ["bash", "-c", again], cwd=ROOT, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "Proven: " in done.stdout and "Next:   ./sauvegarde rollback elpaso " in done.stdout
    assert offers() == OFFERS and demo.sql("standby", demo.CONTENTS) != live


def test_without_keep_nothing_stays(whole_demo, monkeypatch, capsys):
    """After all steps, none of which is taken here once more; the last test, since it takes the hosts away."""
    monkeypatch.setattr(demo.Demo, "STEPS", ())
    assert demo.run() == 0
    output = capsys.readouterr().out
    assert "All of it in 0 s" in output and "--keep leaves the hosts" in output and demo.HINTS not in output
    assert not [one for one in demo.podman.hosts() if one.scenario == demo.SCENARIO]
