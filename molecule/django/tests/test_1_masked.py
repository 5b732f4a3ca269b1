"""Production's data reach development masked and whole, or not at all. First of all: nothing unmasked was here yet."""

import copy

import pytest
from conftest import CANARY, COUNTS, KEY, PASSWORD, RUNS, SQLITE, migrate
from tests_support.hosts import ROOT

# One offer after the other, each in a transaction of its own, as an hourly import would.
IMPORT = r"""
import time, pathlib
from django.db import transaction
from offers.models import Offer, RawOffer
model, number = Offer.objects.order_by('pk').first(), RawOffer.objects.order_by('pk').last().pk
stop = pathlib.Path('/srv/cap/data/stop')
while not stop.exists():
    number += 1
    with transaction.atomic():
        raw = RawOffer.objects.get(pk=model.raw_id)
        raw.pk, raw.guid = number, 'imported-%d' % number
        raw.save(force_insert=True)
        offer = Offer.objects.get(pk=model.pk)
        offer.pk, offer.raw_id, offer.reference = raw.pk, raw.pk, __import__('uuid').uuid4()
        offer.save(force_insert=True)
        offer.places.set(model.places.all())
    time.sleep(0.01)
"""

# Kills the run on this host as soon as it loads.
KILLER = rf"""
import glob, json, os, time
while True:
    for path in glob.glob("{RUNS}/2*/state.json"):
        run = json.load(open(path))
        if run["status"] == "running" and run["step"] == "load":
            os.kill(run["pid"], 9)
            raise SystemExit
    time.sleep(0.02)
"""


def quoted(text):
    return "'" + text.replace("'", "'\\''") + "'"


def test_without_a_policy_nothing_leaves(dev, prod):
    before = dev.root(f"sha256sum {SQLITE}")
    run = migrate("prod", "dev")
    assert run.code != 0 and "There is no masking policy" in run.text
    assert dev.root(f"sha256sum {SQLITE}") == before
    assert prod.root(f"ls {RUNS}/outgoing 2>/dev/null || true") == ""


def test_a_new_field_that_nobody_classified_stops_it(dev, policy):
    short = copy.deepcopy(policy)
    del short["models"]["people.profile"]["phone"]
    before = dev.root(f"sha256sum {SQLITE}")
    run = migrate("prod", "dev", migrate_policy=short, migrate_key=KEY)
    assert run.code != 0 and "people.profile.phone: the field is not in the policy" in run.text
    assert dev.root(f"sha256sum {SQLITE}") == before


def test_the_plan_changes_nothing_and_a_wrong_name_neither(dev, policy):
    before = dev.root(f"sha256sum {SQLITE}; find /srv/cap /var/lib/sauvegarde -newer {SQLITE} 2>/dev/null || true")
    run = migrate("prod", "dev", migrate_policy=policy, migrate_key=KEY, migrate_confirm="cap@prod", confirm=False)
    assert run.code != 0 and "Target: cap.sqlite3 on dev" in run.text and "masked" in run.text
    assert "migrate_confirm=cap.sqlite3@dev" in run.text
    after = dev.root(f"sha256sum {SQLITE}; find /srv/cap /var/lib/sauvegarde -newer {SQLITE} 2>/dev/null || true")
    assert after == before


def test_killed_while_it_loads_the_live_file_is_as_it_was(dev, policy):
    before = dev.root(f"sha256sum {SQLITE}")
    with dev.meanwhile(f"printf %s {quoted(KILLER)} | timeout 280 python3 -") as ended:
        run = migrate("prod", "dev", migrate_policy=policy, migrate_key=KEY)
    assert ended[0].rc == 0, ended[0].stderr
    assert run.code != 0 and "was killed" in run.text
    assert dev.root(f"sha256sum {SQLITE}") == before
    assert "__restore_" in dev.root("ls /srv/cap/data")
    assert dev.pages()[0] == [200, 200, 200]


@pytest.fixture(scope="module")
def migrated(dev, prod, policy):
    """The masked migration, while an import runs in production."""
    before = prod.shell(COUNTS)
    prod.root("rm -f /srv/cap/data/stop")
    with prod.meanwhile(
        f"cd /srv/cap/site && printf %s {quoted(IMPORT)} | sudo -u cap ../venv/bin/python manage.py shell"
    ) as ended:
        try:
            run = migrate("prod", "dev", migrate_policy=policy, migrate_key=KEY)
        finally:
            prod.root("touch /srv/cap/data/stop")
    assert ended[0].rc == 0, ended[0].stderr
    assert run.code == 0, run.output
    return run, before, prod.shell(COUNTS)


def test_an_import_that_ran_meanwhile_did_not_tear_it(dev, migrated):
    _, before, after = migrated
    here = dev.shell(COUNTS)
    assert before["offers"] < here["offers"] < after["offers"]
    assert here["offers"] == here["raw"] and here["users"] == before["users"]
    assert "no such" not in dev.manage("check") and dev.root("ls /srv/cap/data | grep -c __restore_ || true") == "0"


def test_what_arrived_is_the_masked_stream(dev, prod, policy, migrated):
    sent = prod.dumped(policy=policy, key=KEY)
    arrived = dev.dumped()
    assert set(arrived) == set(sent) and "sessions.session" not in sent
    for model, objects in arrived.items():
        # Production has more offers by now; what was there is the same.
        expected = {key: sent[model][key] for key in objects} if model.startswith("offers.") else sent[model]
        assert objects == expected, model


# What a person's name could look like in files, and where files of ours could be.
WORDS = [*CANARY.split(), CANARY.split()[1].lower(), "Hildebrand\\u00e9"]
PLACES = "/srv /var /tmp /home /root /etc /run/log /opt /usr/local"
SEARCH = f"""
set -u
cat > /run/words
grep -rlaFf /run/words {PLACES} 2>/dev/null
find {PLACES} -xdev -name '*.zst' -exec zstdcat {{}} + 2>/dev/null | grep -caFf /run/words | grep -v '^0'
journalctl --no-pager | grep -cFf /run/words | grep -v '^0'
rm /run/words
"""

CARRIED = set((ROOT / ".migrate").glob("*"))  # nothing, unless a run before was killed on this controller


def canaries(host):
    """Where the words are on a host. They go there through a pipe, so that the search does not log them itself."""
    return host.host.run("printf %%s %s | sudo sh -c %s", "\n".join(WORDS) + "\n", SEARCH).stdout.split()


def test_no_canary_came_along(dev, migrated):
    assert canaries(dev) == []
    run, _, _ = migrated
    assert not any(word in run.output for word in WORDS)
    assert set((ROOT / ".migrate").glob("*")) <= CARRIED


def test_the_search_finds_it_where_it_is(prod):
    assert any(path.startswith("/var/lib/postgresql/15/main/") for path in canaries(prod))


def test_pages_and_login_work_on_masked_data(dev, migrated):
    assert dev.pages(PASSWORD) == [[200, 200, 200], True, 200]


def test_the_report_is_kept(dev, migrated):
    report = dev.report()
    assert report["status"] == "ready" and report["masked"] is True
    assert report["proof"]["models"]["auth.user"]["rows"] == 30
    assert report["safety"] and dev.root(f"ls {report['safety']}")
