"""A restore as a user whose sudo asks for a password, with and without pipelining."""

from conftest import AS_OPS
from tests_support.hosts import play


def test_an_archive_of_the_host_is_restored_beside(servers):
    legacy = servers["legacy"]
    legacy.host.check_output("sudo /usr/local/lib/sauvegarde/run run shop")
    request = {
        "restore_target": "legacy",
        "restore_source_host": "legacy",
        "restore_database": "shop",
        "restore_mode": "beside",
        "restore_target_database": "shop_beside",
    }
    # The plan without pipelining, for which Ansible needs acl on the host.
    legacy.host.check_output("sudo dpkg --remove acl")
    playbook = "playbooks/restore.yml"
    plan = play("--tags=plan", playbook=playbook, variables={**AS_OPS, **request, "ansible_pipelining": False})
    assert plan.code == 0, plan.output
    run = play(playbook=playbook, variables={**AS_OPS, **request})
    assert run.code == 0, run.output
    assert legacy.sql("SELECT count(*) FROM orders", "shop_beside") == "100"
    legacy.sql("DROP DATABASE shop_beside")
    assert "canary-" not in plan.output + run.output
