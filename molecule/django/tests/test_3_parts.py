"""Parts of a site, archives in place of it, and the real reference data."""

import json

import pytest
from conftest import KEY, SITE, migrate
from tests_support.shared import shared

NAMES = ["contracts", "jobs", "places", "sources", "technos", "sites"]


def test_masked_people_do_not_replace_productions_own(dev):
    """Development holds what was masked, since the test before went back to it."""
    run = migrate("dev", "prod")
    assert run.code != 0 and "invented people would replace production's" in run.text
    assert run.recap["prod"]["changed"] == 0


def test_a_set_goes_from_development_to_production_and_nothing_else_does(dev, prod):
    """A colleague's spelling in the SQLite file: the places go, and nothing else."""
    before = prod.dumped()
    dev.shell(
        "from reference.models import Place, PlaceVariation\nfrom pages.models import Article\n"
        "PlaceVariation.objects.create(place=Place.objects.first(), label='Orthographe nouvelle')\n"
        "Article.objects.update(title='not to be moved')\ntold = None"
    )
    run = migrate(
        "dev",
        "prod",
        migrate_sets=["places"],
        fixture_sets=[{"name": "places", "models": ["reference.place", "reference.placevariation"]}],
    )
    assert run.code == 0, run.output
    after = prod.dumped()
    labels = [each["label"] for each in after["reference.placevariation"].values()]
    assert "Orthographe nouvelle" in labels
    assert {model: rows for model, rows in after.items() if model != "reference.placevariation"} == {
        model: rows for model, rows in before.items() if model != "reference.placevariation"
    }


def test_an_archive_of_the_database_is_opened_in_production_and_leaves_masked(dev, prod, server, policy):
    """The safety archive of the run before: a dump of production, restored beside it, masked, dropped."""
    path = prod.root("ls -d /var/lib/postgresql/sauvegarde/safety/live/*Z | tail -1")
    prod.shell("from pages.models import Article\nArticle.objects.update(title='after the archive')\ntold = None")
    run = migrate("prod", "dev", migrate_archive=path, migrate_policy=policy, migrate_key=KEY)
    assert run.code == 0, run.output
    assert dev.report()["masked"]
    titles = dev.shell("from pages.models import Article\ntold = list(Article.objects.values_list('title', flat=True))")
    assert titles and "after the archive" not in titles
    assert dev.shell("from reference.models import PlaceVariation\ntold = PlaceVariation.objects.count()") > 0
    assert server.sql("SELECT count(*) FROM pg_database WHERE datname LIKE '%opened%'") == "0"
    assert prod.root("ls -d /var/tmp/sauvegarde-opened-* 2>/dev/null || true") == ""


def test_an_archive_is_not_opened_where_it_must_not_be_seen(dev, policy):
    path = dev.root("ls -d /srv/cap/data/.sauvegarde/safety/live/*Z | tail -1")
    options = {"migrate_archive": path, "migrate_masking": "always", "migrate_policy": policy, "migrate_key": KEY}
    run = migrate("dev", "prod", "--tags", "plan", **options)
    assert run.code == 0 and "must be masked is not opened here" in run.text


def test_a_failed_dump_leaves_the_old_file(prod, server):
    """It fails in the middle, at a table that its role may not read any more."""
    path = "/root/nightly.json.gz"
    assert prod.module("sauvegarde_dumpdata", path=path)["changed"]
    before = prod.root(f"sha256sum {path}")
    server.sql("ALTER TABLE people_subscription OWNER TO postgres", "cap")
    try:
        failed = prod.module("sauvegarde_dumpdata", path=path)
        assert failed["exit_code"] == 1 and "people_subscription" in failed["msg"]
    finally:
        server.sql("ALTER TABLE people_subscription OWNER TO cap", "cap")
    assert prod.root(f"sha256sum {path}") == before
    assert prod.root("ls -A /root | grep nightly") == "nightly.json.gz"


@pytest.mark.parametrize("name", ["prod", "dev"])
def test_the_real_reference_data_load_both_ways_to_the_same(name, request, server):
    """Stock loaddata into one database, ours into another; exported again they are what was published."""
    folder = shared("fixtures")
    where = request.getfixturevalue(name)
    where.root("install -d -o cap /srv/cap/real")
    files = []
    for each in NAMES:
        text = (folder / f"{each}.json").read_text(encoding="utf-8")
        assert where.host.run("printf %%s %s | sudo tee /srv/cap/real/%s >/dev/null", text, f"{each}.json").rc == 0
        files.append(f"/srv/cap/real/{each}.json")
    texts = {}
    for way in ("stock", "ours"):
        if name == "prod":
            server.sql(f"CREATE DATABASE real_{way} OWNER cap")
            server.sql("CREATE EXTENSION postgis", f"real_{way}")
            url = where.root("sed -n 's/^DATABASE_URL=//p' /srv/cap/site/.env").rsplit("/", 1)[0] + f"/real_{way}"
        else:
            url = f"sqlite:////srv/cap/data/real_{way}.sqlite3"
        env_file = f"/srv/cap/real/{way}.env"
        where.root(f"printf 'DATABASE_URL=%s\\nSITE_EXTRA_APPS=jobs\\n' '{url}' > {env_file}; chown cap {env_file}")
        where.manage("migrate -v0", f"SITE_ENV={env_file}")
        site = dict(SITE, env_file=env_file)
        if way == "stock":
            where.manage("loaddata -v0 " + " ".join(files), f"SITE_ENV={env_file}")
        else:
            assert where.module("sauvegarde_loaddata", site=site, fixtures=files)["changed"]
            assert not where.module("sauvegarde_loaddata", site=site, fixtures=files)["changed"]
        texts[way] = where.manage("dumpdata jobs sites", f"SITE_ENV={env_file}")
    assert texts["ours"] == texts["stock"]
    published = {each: json.loads((folder / f"{each}.json").read_text("utf-8")) for each in NAMES}
    assert _sorted(json.loads(texts["ours"])) == _sorted(entry for entries in published.values() for entry in entries)
    sets = [{"name": each, "models": sorted({entry["model"] for entry in published[each]})} for each in NAMES]
    exported = where.module("sauvegarde_fixtures", site=site, folder="/srv/cap/fixtures", sets=sets, state="exported")
    assert exported["changed"]
    for each in NAMES:
        assert _sorted(json.loads(where.root(f"cat /srv/cap/fixtures/{each}.json"))) == _sorted(published[each])


def _sorted(entries):
    return sorted(entries, key=lambda entry: json.dumps(entry, sort_keys=True))
