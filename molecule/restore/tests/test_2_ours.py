"""Our own archives: 9.6 to 15, 13 to 15 to 17, beside itself, over itself and back, by time."""

import os
import shutil
import time
from pathlib import Path

import pytest
import yaml
from conftest import content, databases, forget, go_back, on_all, restore
from tests_support.hosts import ROOT, play

pytestmark = pytest.mark.usefixtures("archives")
JOBS = yaml.safe_load((Path(__file__).parents[1] / "group_vars/backup.yml").read_text())["backup_jobs"]


@pytest.fixture(autouse=True)
def clean(servers):
    yield
    on_all(lambda server: forget(server, "ancien", "treize", "hier"), servers.values())


def test_from_9_6_to_15(servers):
    """On its way it lies on the controller, where old copies go and others' stay."""
    copies = ROOT / ".restore"
    for name, days in (("forgotten", 2), ("forgotten too", 3), ("of another", 0)):
        (copies / name).mkdir(parents=True)
        (copies / name / "dump").touch()
        os.utime(copies / name, times=(0, time.time() - days * 86400))
    done = restore("db15", "elpaso", restore_source_host="db96", restore_target_database="ancien",
                   restore_confirm="ancien@db15")  # fmt: skip
    assert done.code == 0, done.output
    assert content(servers["db15"], "ancien") == content(servers["db96"])
    assert "rows, " in done.text and "by fingerprint" in done.text
    assert "not loaded as its owner" not in done.text
    left = {each.name for each in copies.iterdir()}
    assert "of another" in left and not left & {"forgotten", "forgotten too"} and "db96-elpaso" not in str(left)
    shutil.rmtree(copies / "of another")


def test_9_6_over_itself_while_somebody_is_in(servers):
    """A server before 10 says less of its sessions; the plan counts them all the same, and the swap ends them."""
    server = servers["db96"]
    live = content(server)
    server.host.check_output(
        "sudo systemd-run --unit=guest --collect --uid=postgres psql -Xd elpaso -c 'SELECT pg_sleep(600)'"
    )
    done = restore("db96", "elpaso", restore_source_host="db96")
    assert done.code == 0, done.output
    assert "1 session(s) on elpaso will be ended by the swap" in done.text
    assert content(server) == live
    assert server.host.run("systemctl is-active guest").stdout.strip() != "active"
    (kept,) = [name for name in databases(server) if name.startswith("elpaso__before_")]
    server.sql(f'DROP DATABASE "{kept}"')


def test_from_13_to_15_to_17(servers):
    """Host to host through the controller; what goes on to 17 is an archive of what came from 13."""
    first = restore("db15", "elpaso", restore_source_host="db13", restore_target_database="treize",
                    restore_confirm="treize@db15")  # fmt: skip
    assert first.code == 0, first.output
    assert "it belongs to several roles" in first.text, "the topology is the superuser's"
    assert content(servers["db15"], "treize") == content(servers["db13"])
    jobs = [*JOBS, {"name": "treize", "kind": "pg_dump", "schedule": "0 0 29 2 *", "database": "treize"}]
    result = play("--limit=db15", "--tags=backup-preflight,backup-configure", variables={"backup_jobs": jobs})
    assert result.code == 0, result.output
    result = play(
        "--limit=db15", playbook="playbooks/backup.yml", variables={"backup_jobs": jobs, "backup_run": ["treize"]}
    )
    assert result.code == 0, result.output
    second = restore("db17", "treize", restore_source_host="db15")
    assert second.code == 0, second.output
    assert content(servers["db17"], "treize") == content(servers["db13"])
    assert servers["db17"].sql("SELECT rolcanlogin, rolconnlimit FROM pg_roles WHERE rolname ~ 'tribu'") == "t|20"
    assert "canary" not in first.output + second.output


def test_beside_itself(servers, archives):
    server = servers["db13"]
    before = server.sql("SELECT oid FROM pg_database WHERE datname = 'elpaso'")
    # A plain id, a time of a moment later, and neither: nothing is confirmed where nothing is replaced.
    done = restore("db13", "elpaso", restore_source_host="db13", restore_mode="beside", restore_confirm="",
                   restore_target_database="hier", restore_point=archives["db13"].rsplit("/")[-1])  # fmt: skip
    assert done.code == 0, done.output
    assert content(server, "hier") == content(server)
    assert server.sql("SELECT oid FROM pg_database WHERE datname = 'elpaso'") == before
    assert "Restored as: hier;" in done.text and "rollback" not in done.text
    again = restore("db13", "elpaso", restore_source_host="db13", restore_mode="beside")
    assert again.code != 0
    assert "The target is the archive's own source, elpaso on this server." in again.text


def test_over_itself_and_back_and_cleaned_up(servers):
    """Another's live database, of the same version, in production: swapped, back by the command that was printed, and
    what was kept removed by its name."""
    server = servers["db15"]
    server.sql("CREATE TABLE since AS SELECT 42 AS answer", "elpaso")
    live = content(server)
    production = {"sauvegarde_environment": "production"}
    done = restore("db15", "elpaso", restore_source_host="db15", restore_point="2099-01-01",
                   restore_production="overwrite production", **production)  # fmt: skip
    assert done.code == 0, done.output
    assert "Target: elpaso on db15 (production, primary) at " in done.text
    assert any("since" in line for line in live) and not any("since" in line for line in content(server))
    (kept,) = [name for name in databases(server) if name.startswith("elpaso__")]
    assert f"the previous database is {kept}" in done.text

    listed = play(playbook="playbooks/list.yml", variables={"list_format": "json"})
    assert listed.code == 0 and kept in listed.output
    shown = play(playbook="playbooks/list.yml")
    assert any(kept in line and "db15" in line and " MiB" in line for line in shown.output.splitlines()), shown.output
    plan = restore("db15", "elpaso", "--tags=plan", restore_source_host="db15")
    assert f"Previous: {kept} (" in plan.text and "MiB" in plan.text

    options = {"restore_target": "db15", "restore_database": "elpaso", "restore_confirm": "elpaso@db15"}
    refused = play(variables=dict(options, restore_confirm="yes"), playbook="playbooks/rollback.yml")
    assert refused.code != 0 and "restore_confirm=elpaso@db15" in refused.text
    refused = play(variables=dict(options, **production), playbook="playbooks/rollback.yml")
    assert refused.code != 0 and "db15 is production" in refused.text
    back = go_back(done, **production)
    assert back.code == 0 and f"{kept} is elpaso again; what was live is elpaso__before_" in back.text, back.output
    assert content(server) == live
    (kept,) = [name for name in databases(server) if name.startswith("elpaso__")]
    cleanup = play(variables=dict(options, restore_kept="elpaso"), playbook="playbooks/cleanup.yml")
    assert cleanup.code != 0 and "is not a database that a restore of elpaso left" in cleanup.text
    refused = play(variables=dict(options, restore_kept=kept, **production), playbook="playbooks/cleanup.yml")
    assert refused.code != 0 and "db15 is production" in refused.text
    cleanup = play(variables=dict(options, restore_kept=kept), playbook="playbooks/cleanup.yml")
    assert cleanup.code == 0 and cleanup.changed()["db15"] == 1, cleanup.output
    assert [name for name in databases(server) if name.startswith("elpaso__")] == []
    none = play(variables=options, playbook="playbooks/rollback.yml")
    assert none.code != 0 and "nothing to go back to" in none.text
    server.sql("DROP TABLE since", "elpaso")
