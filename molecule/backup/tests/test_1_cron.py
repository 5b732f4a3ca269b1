"""Cron itself runs the jobs: on 9.6, 13, 15 and 17, with names that nothing may trip over."""

import json

import jsonschema
import pytest
from conftest import every_minute, wait
from tests_support.hosts import ROOT, play

testinfra_hosts = ["ansible://backup"]


@pytest.fixture(scope="module", autouse=True)
def started(everyone, described):
    """What Ansible said when the jobs began to start every minute; nobody has run them before."""
    spread = {one.root("grep ' elpaso$' /etc/cron.d/sauvegarde")[:12] for one in everyone.values()}
    jobs = every_minute(described)
    jobs[3]["connection"] = dict(jobs[3]["connection"], password="canary-Zephyr-another")
    done = play(
        "--limit=backup", "--tags=backup-preflight,backup-configure", "-vvv", "--diff", variables={"backup_jobs": jobs}
    )
    assert done.code == 0, done.output
    assert len(spread) == len(everyone), "a fleet does not start at once"
    return done


@pytest.mark.parametrize("job", ["elpaso", "globals", "dev", "failing", "tolerated"])
def test_cron_runs_it(backups, job):
    # The metrics are the last that a run writes.
    wait(lambda: backups.state(job).get("last_run") and backups.metrics(job))
    assert backups.labels(job) or job in ("failing", "tolerated")


@pytest.mark.parametrize("job", ["elpaso", "globals", "dev"])
def test_a_whole_run_is_reported(backups, job):
    state = backups.state(job)
    assert state["last_run"]["exit_code"] == 0, state["last_run"]["problems"]
    assert state["last_success"]["id"] in backups.labels(job)
    metrics = backups.metrics(job)
    assert metrics["last_run_success"] == 1 and metrics["last_verify_success"] == 1
    assert backups.now() - 600 < metrics["last_success_timestamp_seconds"] <= backups.now() + 1
    assert metrics["last_size_bytes"] > 0 and metrics["available"] >= 1 and metrics["last_duration_seconds"] > 0


def test_a_failed_run_is_reported(backups, repository_host):
    """Fault 5: there is nobody who delivers mail, and yet it does not go unnoticed."""
    metrics = backups.metrics("failing")
    assert (metrics["last_run_success"], metrics["last_run_exit_code"], metrics["available"]) == (0, 13, 0)
    assert "last_success_timestamp_seconds" not in metrics
    for job, ends in (("failing", {"/start", "/fail"}), ("elpaso", {"/start", ""})):
        wait(lambda job=job, ends=ends: ends <= {path for _, path in repository_host.pings(backups.name, job)})
        assert {path for _, path in repository_host.pings(backups.name, job)} == ends
    if backups.name != "db17":
        wait(lambda: "No MTA installed, discarding output" in backups.journal("-u cron"))


def test_a_failure_that_may_pass_is_reported_to_nobody(backups):
    """Its timeout is a second, what it does before takes a minute."""
    assert backups.state("tolerated")["last_run"]["exit_code"] == 124
    assert backups.metrics("tolerated")["last_run_success"] == 0


def test_a_client_older_than_the_server_is_refused(backups, server):
    """Fault 6: clients 13 and 15 meet 17 over the network, which lets them in; with its own the same job succeeds."""
    wait(lambda: backups.state("newest").get("last_run"))
    run, left = backups.state("newest")["last_run"], backups.root("ls -A /var/backups/sauvegarde/newest")
    if backups.name == "db17":
        assert run["exit_code"] == 0 and left and backups.manifest("newest")["tools"]["pg_dump"].startswith("17")
        return
    tool = f"/usr/lib/postgresql/{server.version}/bin/pg_dump"
    version = backups.host.check_output(f"{tool} --version").split()[2]
    (problem,) = run["problems"]
    assert run["exit_code"] == 1 and problem["what"].endswith("is as new as the server, which is 17."), problem
    assert version in problem["why"] and "postgresql-client-17" in problem["fix"] and left == ""
    login = "PGPASSFILE=/etc/sauvegarde/passfiles/newest LC_ALL=C"
    refused = backups.host.run(f"sudo -u sauvegarde env {login} {tool} -w -h db17 -U sauvegarde postgres")
    assert refused.rc == 1 and "server version mismatch" in refused.stderr and refused.stdout == "", "nor would it have"


def test_mail_comes_from_failures_only(everyone):
    one = everyone["db17"]
    wait(lambda: "refused the login" in one.root("cat /var/tmp/mails"))
    mails = one.root("cat /var/tmp/mails")
    assert "canary" not in mails and "To: root" in mails
    # A busy machine may need more than the minute after which cron starts a job again, which is a failure too.
    lines = [mail for mail in mails.split("\nSubject: ")[1:] if "is running already" not in mail]
    assert lines and all(mail.splitlines()[0].endswith("sauvegarde run failing") for mail in lines), mails


def test_hooks_and_niceness(backups):
    def hooks_ran():
        """Cron goes on starting the job: only between its runs do the hooks' words go with the newest archive."""
        labels = backups.labels("dev")
        lines = backups.root("cat /var/lib/sauvegarde/dev/hooks || true").splitlines()
        return labels and lines == ["15", f"dev success /var/backups/sauvegarde/dev/{labels[-1]}"]

    wait(hooks_ran)


def test_cron_had_nothing_to_complain_of(backups):
    # Fault 22: a name with a dot, another owner, a mode that lets others write, and cron leaves the file alone.
    assert backups.root("find /etc/cron.d -name '*sauvegarde*' -printf '%f %u %m'") == "sauvegarde root 644"
    journal = backups.journal("-u cron")
    assert "bad minute" not in journal and "Error" not in journal
    assert "(root) CMD (umask 077; exec /usr/local/sbin/sauvegarde run elpaso)" in journal


def test_a_step_is_a_line_in_the_journal(backups):
    lines = backups.journal("-t sauvegarde SAUVEGARDE_JOB=elpaso SAUVEGARDE_STATUS=ok").splitlines()
    steps = {word.split("=")[1] for line in lines for word in line.split() if word.startswith("step=")}
    assert {"preflight", "dump", "publish", "retention", "offsite_check", "run"} <= steps
    assert all(line.startswith("job=elpaso step=") for line in lines)


@pytest.mark.parametrize("job", ["elpaso", "globals", "dev"])
def test_the_manifest_keeps_to_the_published_schema(backups, job):
    schema = json.loads((ROOT / "docs/manifest.schema.json").read_text())
    jsonschema.Draft202012Validator(schema).validate(backups.manifest(job))


def test_the_manifest_says_what_it_holds(backups, server, database):
    manifest = backups.manifest()
    source = manifest["source"]
    assert (manifest["job"], manifest["kind"], source["database"]) == ("elpaso", "pg_dump", database)
    assert manifest["host"] == backups.name
    assert source["server"]["version"].split(" ")[0] == server.sql("SHOW server_version").split(" ")[0]
    number = server.sql("SELECT system_identifier FROM pg_control_system()")
    assert source["server"]["system_identifier"] == number
    assert [each["name"] for each in source["extensions"]] == ["plpgsql"]
    assert source["roles"] == ['-géo "tribu"', "postgres"]
    table = manifest["fingerprint"]["tables"]['"l\'été"."-offres ""$(id)"" %"']
    assert table["rows"] == 3000
    assert manifest["fingerprint"]["sequences"] == {'"l\'été"."-offres ""$(id)"" %_id_seq"': [3000, True]}
    assert manifest["fingerprint"]["matviews"] == {'"l\'été"."par jour"': True}
    assert manifest["fingerprint"]["large_objects"]["rows"] == 1
    properties = source["properties"]
    assert properties["settings"] == {"TimeZone": "Europe/Paris"} and properties["owner"] == '-géo "tribu"'
    assert (properties["encoding"], properties["collate"]) == ("UTF8", "fr_FR.UTF-8")


def test_the_globals_hold_the_roles_with_their_passwords(backups):
    text = backups.root(f"zstd -dcq /var/backups/sauvegarde/globals/{backups.labels('globals')[-1]}/globals.sql.zst")
    assert 'CREATE ROLE "-géo ""tribu""";' in text
    assert "PASSWORD 'SCRAM-SHA-256$" in text or "PASSWORD 'md5" in text


def test_an_old_restic_is_reported(backups):
    text = " ".join(backups.state()["last_run"]["warnings"])
    assert ("restic 0.11.0 does not compress" in text) == (backups.name in ("db96", "db13"))


def test_the_dump_role_is_no_superuser_where_that_is_possible(server):
    superuser = server.sql("SELECT rolsuper FROM pg_roles WHERE rolname = 'sauvegarde'")
    assert superuser == ("f" if float(server.version) >= 14 else "t")


def test_nobody_else_can_read_them(backups):
    assert backups.open_to_others() == ""
    assert backups.host.run("ls /var/backups/sauvegarde/elpaso").rc != 0


def test_nothing_secret_in_what_ansible_prints(started):
    """Passwords were written anew, as verbosely as can be, with the differences shown: fault 19."""
    task = started.output.split("TASK [backup : Configure | Write passwords and keys]")[1].split("TASK [")[0]
    assert "changed: [db15]" in task and "canary-Zephyr" not in started.output


def test_the_cron_file_is_deleted(everyone):
    """Fault 5; what comes of it is looked at when some minutes have passed."""
    everyone["db96"].root("mv /etc/cron.d/sauvegarde /root/deleted")
