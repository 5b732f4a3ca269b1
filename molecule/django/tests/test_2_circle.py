"""Production → development → production, nothing masked: all that was there is there again, and there is a way back."""

import pytest
from conftest import NUMBERS, PERMISSIONS, SQLITE, migrate
from tests_support.hosts import play

OVER_PRODUCTION = {"restore_confirm": "cap@prod", "restore_production": "overwrite production"}


def rollback(target, database, keeper, **variables):
    values = dict({"restore_target": target, "restore_database": database, "restore_user": keeper}, **variables)
    return play(variables=values, playbook="playbooks/rollback.yml")


@pytest.fixture(scope="module")
def before(prod):
    """What production held: objects by model and key."""
    return prod.dumped()


@pytest.fixture(scope="module")
def prepared_there(before, dev):
    run = migrate("prod", "dev", migrate_masking="never")
    assert run.code == 0, run.output
    return dev.dumped()


@pytest.fixture(scope="module")
def back(prepared_there, prod):
    run = migrate("dev", "prod")
    assert run.code == 0, run.output
    return prod.dumped()


def test_all_of_production_is_in_the_sqlite_file(before, prepared_there):
    assert prepared_there == before
    assert len(before["offers.offer"]) > 300


def test_permissions_are_the_same_by_name_though_their_numbers_differ(prod, dev, prepared_there):
    assert prod.shell(NUMBERS) != dev.shell(NUMBERS)
    granted = prod.shell(PERMISSIONS)
    assert granted["groups"]["Lecteurs"] == ["offers.view_offer"]
    assert dev.shell(PERMISSIONS) == granted


def test_the_sites_pages_answer_in_development(dev, prepared_there):
    assert dev.pages() == [[200, 200, 200], True, 200]


def test_the_circle_closes(prod, dev, before, back):
    """All but the password that the test above has changed and its login."""
    changed = {model for model in before if back.get(model) != before[model]}
    assert changed <= {"auth.user", "sessions.session"}
    for key, user in before["auth.user"].items():
        now = back["auth.user"][key]
        assert {name: now[name] for name in now if name not in ("password", "last_login")} == {
            name: user[name] for name in user if name not in ("password", "last_login")
        }
    assert prod.shell(PERMISSIONS) == dev.shell(PERMISSIONS)
    assert prod.pages() == [[200, 200, 200], True, 200]


def test_what_belongs_to_the_database_is_still_there(server, back):
    assert server.sql("SELECT datconnlimit, pg_get_userbyid(datdba) FROM pg_database WHERE datname = 'cap'") == "30|cap"
    assert server.sql("SHOW timezone", "cap") == "Europe/Paris"
    assert server.sql("SELECT count(*) FROM pg_extension WHERE extname = 'postgis'", "cap") == "1"
    assert server.sql("SELECT count(*) FROM pg_stat_user_tables WHERE last_analyze IS NOT NULL", "cap") != "0"


def test_new_rows_get_new_numbers(prod, back):
    """Sequences stand behind what was loaded."""
    code = "from reference.models import Source\ntold = Source.objects.create(name='NEUF').pk"
    assert prod.shell(code) > 3


def test_production_goes_back_to_what_it_was(prod, server, before, back):
    names = server.sql("SELECT datname FROM pg_database WHERE datname LIKE 'cap\\_\\_%'").splitlines()
    assert len(names) == 1 and names[0].startswith("cap__before_")
    refused = rollback("prod", "cap", "postgres")
    assert refused.code != 0 and "restore_confirm=cap@prod" in refused.text
    run = rollback("prod", "cap", "postgres", **OVER_PRODUCTION)
    assert run.code == 0, run.output
    assert prod.dumped() == before


def test_development_goes_back_too(dev, prepared_there):
    """To the masked data that were live before the unmasked ones."""
    run = rollback("dev", SQLITE, "cap", restore_confirm="cap.sqlite3@dev")
    assert run.code == 0, run.output
    assert dev.shell(
        "from django.contrib.auth.models import User\ntold = User.objects.get(is_superuser=True).email"
    ).endswith("@example.org")
    assert dev.pages()[0] == [200, 200, 200]
