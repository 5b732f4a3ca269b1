"""Fixture sets in git by the playbook, jobs that archive a site's data, and migrations out of what they keep."""

import json

import pytest
from conftest import KEY, RUNS, SITE, migrate
from tests_support.hosts import play

BARE, CLONE = "/srv/cap/bare.git", "/srv/cap/clone"
SETS = dict(SITE, env_file="/srv/cap/sets.env")
COPY = dict(SITE, env_file="/srv/cap/copy.env")
IN_SETS = "SITE_ENV=/srv/cap/sets.env"
MODELS = ["jobs", "cms", "sites"]
# A little of each of the seven sets.
FILL = """
from cms.models import Page
from jobs import models as jobs
for number in range(3):
    word = f'Métier "{number}"'
    contract = jobs.Contract.objects.create(abbreviation=f'C{number}', name=word)
    jobs.ContractVariations.objects.create(name=contract, label=word.upper())
    trade = jobs.JobPosition.objects.create(name=word)
    jobs.JobPositionVariations.objects.create(name=trade, label=word.upper())
    place = jobs.Place.objects.create(name=f'Lieu {number}', code=f'0{number}', scale='VILLE')
    jobs.PlaceVariations.objects.create(name=place, label=word)
    jobs.Source.objects.create(name=f'Source {number}')
    tool = jobs.Technology.objects.create(name=f'Outil {number}', license='libre', type_soft='SIG')
    jobs.TechnologyVariations.objects.create(name=tool, label=word)
    Page.objects.create(slug=f'page-{number}', title=word, parent=Page.objects.first())
told = Page.objects.count()
"""


def git(where, words, folder=BARE):
    return where.root(f"cd / && sudo -u cap env HOME=/srv/cap git -C {folder} {words}").strip()


def fixtures(**variables):
    """Run the playbook on the site of the sets, with the sets that there are without any of the user's own."""
    values = {"django_site": SETS, "fixture_folder": f"{CLONE}/fixtures", **variables}
    return play(variables=values, playbook="playbooks/fixtures.yml")


@pytest.fixture(scope="module")
def backups(prod):
    """The backup role on production: its jobs are in the inventory."""
    run = play("--limit=prod", groups={"backup": ["prod"]})
    assert run.code == 0, run.output


@pytest.fixture(scope="module")
def sets(prod, server, backups):
    """Two empty sites with the models of the seven sets, one of them filled, and a repository with a clone."""
    server.sql("CREATE DATABASE sets OWNER cap")
    server.sql("CREATE EXTENSION postgis", "sets")
    url = prod.root("sed -n 's/^DATABASE_URL=//p' /srv/cap/site/.env").strip().rsplit("/", 1)[0] + "/sets"
    for name, address in (("sets", url), ("copy", "sqlite:////srv/cap/data/copy.sqlite3")):
        path = f"/srv/cap/{name}.env"
        lines = f"printf 'DATABASE_URL=%s\\nSITE_EXTRA_APPS=jobs,cms\\n' '{address}'"
        prod.root(f"umask 077; {lines} > {path}; chown cap {path}")
        prod.manage("migrate -v0", f"SITE_ENV={path}")
    assert prod.shell(FILL, IN_SETS) == 3
    prod.root(f"install -d -o cap {BARE}")
    git(prod, "init --quiet --bare")
    git(prod, f"clone --quiet {BARE} {CLONE}", "/srv/cap")
    who = "-c user.name=T -c user.email=t@example.org"
    git(prod, f"{who} commit --quiet --allow-empty -m Start", CLONE)
    git(prod, "push --quiet --set-upstream origin HEAD", CLONE)
    prod.root(f"install -d -o cap {CLONE}/fixtures")


def test_the_sets_are_committed_and_pushed_and_a_second_run_changes_nothing(prod, sets):
    options = {
        "fixture_commit": True,
        "fixture_push": True,
        "fixture_author_name": "E",
        "fixture_author_email": "e@x.org",
    }
    first = fixtures(**options)
    assert first.code == 0, first.output
    assert first.changed() == {"prod": 1}
    files = ["content.json", "contracts.json", "jobs.json", "places.json", "sites.json", "sources.json", "technos.json"]
    assert git(prod, "show --name-only --format=%an HEAD").split() == ["E", *[f"fixtures/{each}" for each in files]]
    commit = git(prod, "rev-parse HEAD")
    again = fixtures(**options)
    assert again.code == 0 and again.changed() == {"prod": 0}, again.output
    assert git(prod, "rev-parse HEAD") == commit


def test_they_are_imported_where_that_is_confirmed(prod, sets):
    options = {"django_site": COPY, "fixture_state": "imported"}
    refused = fixtures(**options)
    assert refused.code != 0 and "fixture_confirm=prod" in refused.text
    assert prod.shell("from jobs.models import Place\ntold = Place.objects.count()", "SITE_ENV=/srv/cap/copy.env") == 0
    done = fixtures(fixture_confirm="prod", **options)
    assert done.code == 0 and done.changed() == {"prod": 1}, done.output
    expected = prod.dumped(site=SETS, labels=MODELS, exclude=[])
    assert len(expected) == 11
    assert prod.dumped(site=COPY, labels=MODELS, exclude=[]) == expected
    again = fixtures(fixture_confirm="prod", **options)
    assert again.code == 0 and again.changed() == {"prod": 0}, again.output


def test_a_file_of_one_s_own_is_dumped_on_this_machine(prod, sets, tmp_path):
    path = tmp_path / "own.json"
    options = {"fixture_dump": str(path), "fixture_models": ["jobs.Place"]}
    refused = fixtures(**options)
    assert refused.code != 0 and "fixture_personal_data" in refused.text and not path.exists()
    done = fixtures(fixture_personal_data="unmasked", **options)
    assert done.code == 0, done.output
    assert len(json.loads(path.read_text(encoding="utf-8"))) == 3
    assert prod.root("ls -d /var/tmp/sauvegarde-fixtures-* 2>/dev/null || true") == ""


@pytest.fixture(scope="module")
def archived(prod, sets, policy):
    """Each of the jobs has run once: {job: the folder of its archive}, and what production held, plain and masked."""
    held = prod.dumped(), prod.dumped(policy=policy, key=KEY)
    prod.shell("from jobs.models import Place\ntold = Place.objects.filter(code='01').update(scale='PAYS')", IN_SETS)
    run = play(variables={"backup_hosts": "prod"}, playbook="playbooks/backup.yml")
    assert run.code == 0, run.output
    jobs = ("cap", "site", "copy", "sets")
    collected = {name: prod.root(f"ls -d /var/backups/sauvegarde/{name}/*Z").split() for name in jobs}
    assert [len(each) for each in collected.values()] == [1] * len(jobs)
    # What is only in the live database now is in no archive.
    prod.shell("from pages.models import Article\nArticle.objects.update(title='after the archives')\ntold = None")
    return {name: paths[0] for name, paths in collected.items()}, *held


def test_a_job_archives_the_site_as_its_own_user(prod, archived):
    paths, held, _ = archived
    manifest = json.loads(prod.root(f"cat {paths['site']}/manifest.json"))
    assert manifest["source"]["counts"]["auth.user"] == 30 and not manifest["source"]["masked"]
    assert prod.root(f"stat -c %U {paths['site']}").strip() == "cap"
    entries = json.loads(prod.root(f"zstdcat {paths['site']}/data.json.zst"))
    assert {model: len(rows) for model, rows in held.items()} == {
        model: rows for model, rows in manifest["source"]["counts"].items() if rows
    }
    users = {json.dumps(each["pk"]): each["fields"]["email"] for each in entries if each["model"] == "auth.user"}
    assert users == {key: fields["email"] for key, fields in held["auth.user"].items()}
    assert prod.host.run("sudo sauvegarde verify site").rc == 0


def test_a_job_publishes_what_it_archives(prod, archived):
    paths, _, _ = archived
    commit = json.loads(prod.root(f"cat {paths['sets']}/manifest.json"))["source"]["commit"]
    assert commit == git(prod, "rev-parse HEAD")
    assert git(prod, "show --name-only --format=%an HEAD").split() == ["Prod", "fixtures/places.json"]
    text = prod.root(f"zstdcat {paths['sets']}/places.json.zst")
    assert '"PAYS"' in text and git(prod, "show HEAD:fixtures/places.json") == text.strip()


def left_behind(prod):
    """What a migration has not removed from its source."""
    places = f"/var/lib/sauvegarde/fetched-* {RUNS}/outgoing/*Z /var/tmp/sauvegarde-opened-*"
    return prod.root(f"ls -d {places} 2>/dev/null || true")


def test_the_archive_of_a_site_comes_out_of_a_repository_and_leaves_masked(dev, prod, archived, policy):
    _, _, masked = archived
    options = {"migrate_repository": "attic", "migrate_job": "site", "migrate_policy": policy, "migrate_key": KEY}
    run = migrate("prod", "dev", **options)
    assert run.code == 0, run.output
    assert dev.report()["masked"] and dev.dumped() == masked
    assert "canari-Zéphyr-grenier" not in run.output and left_behind(prod) == ""


def test_so_does_the_copy_of_a_file_whose_site_has_lost_it(dev, prod, archived, policy):
    more = prod.module("sauvegarde_site_info", site=COPY, policy=policy, rows=0)["unclassified"]["models"]
    both = dict(policy, models=dict(policy["models"], **more))
    held = prod.dumped(site=COPY, policy=both, key=KEY)
    options = {"migrate_repository": "attic", "migrate_database": "/srv/cap/data/copy.sqlite3", "django_site": COPY}
    options.update(migrate_policy=both, migrate_key=KEY, migrate_confirm="copy.sqlite3@dev")
    dev.root("umask 077; cp -p /srv/cap/site/.env /srv/cap/copy.env")  # with its owner and its mode
    dev.root(
        "printf 'DATABASE_URL=sqlite:////srv/cap/data/copy.sqlite3\nSITE_EXTRA_APPS=jobs,cms\n' > /srv/cap/copy.env"
    )
    prod.root("mv /srv/cap/data/copy.sqlite3 /srv/cap")
    # It goes again where the target's plan fails; what another run has fetched stays.
    prod.root("mkdir -m 700 /var/lib/sauvegarde/fetched-1")
    failed = migrate("prod", "dev", "--tags", "plan", confirm=False, migrate_values={"too_long": "burn"}, **options)
    assert failed.code != 0 and "too_long: burn" in failed.text and failed.recap["prod"]["changed"] >= 2
    assert left_behind(prod) == "/var/lib/sauvegarde/fetched-1"
    prod.root("rmdir /var/lib/sauvegarde/fetched-1")
    planned = migrate("prod", "dev", "--tags", "plan", confirm=False, **options)
    assert planned.code == 0 and "copy.sqlite3 on dev" in planned.text and "BLOCKED:" not in planned.text
    assert left_behind(prod) == ""
    run = migrate("prod", "dev", confirm=False, **options)
    assert run.code == 0, run.output
    assert dev.dumped(site=COPY) == held and "jobs.place" in held
    assert left_behind(prod) == "" and "copy.sqlite3" not in prod.root("ls /srv/cap/data")


def test_an_archive_comes_out_of_a_repository_and_leaves_masked(dev, prod, server, archived, policy):
    _, _, masked = archived
    before = dev.root("ls /srv/cap/data | grep -c __before_")
    where = {"migrate_repository": "vault", "migrate_database": "cap"}
    run = migrate("prod", "dev", migrate_policy=policy, migrate_key=KEY, **where)
    assert run.code == 0, run.output
    assert int(dev.root("ls /srv/cap/data | grep -c __before_")) == int(before) + 1
    assert dev.report()["masked"] and dev.dumped() == masked
    assert "canari-Zéphyr-restic" not in run.output
    assert left_behind(prod) == ""
    assert server.sql("SELECT count(*) FROM pg_database WHERE datname LIKE '%opened%'") == "0"


def test_it_is_not_fetched_where_it_may_not_be_seen(dev, archived):
    """Development would be the source: refused before anything of production's is there."""
    options = {"migrate_repository": "vault", "migrate_database": "cap", "migrate_of_host": "prod"}
    run = migrate("dev", "prod", "--tags", "plan", migrate_masking="always", **options)
    assert run.code != 0 and "is not brought to dev" in run.text
    assert dev.root("ls -d /var/lib/sauvegarde/fetched-* 2>/dev/null || command -v restic || true") == ""
