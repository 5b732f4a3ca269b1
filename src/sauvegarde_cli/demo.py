"""Run the demo: production, backups, the loss of production, a proven restore, a rollback.

The hosts are the lab's scenario `demo`, their inventory is inventories/demo: every step can be typed by hand.
"""

import contextlib
import json
import shlex
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import yaml
from rich.table import Table

from sauvegarde_cli import lab, podman, run_record
from sauvegarde_cli.playbooks import Played, Show, play
from sauvegarde_cli.system import ROOT, CommandFailed
from sauvegarde_cli.terminal import complain, console, say

SCENARIO = "demo"
INVENTORY = "inventories/demo"
STATE = ROOT / ".lab" / SCENARIO
DATABASE = "elpaso"
PATIENCE = 300  # seconds for cron to start a job of every minute, or for the job to end

# The contents of a database, asked without the engine: a line for each table, with the count and a sum of its rows.
CONTENTS = """
SELECT relname, query_to_xml(
  format('SELECT count(*), sum(hashtextextended(t::text, 0)) FROM %s t', oid::regclass), true, true, '')
FROM pg_class WHERE relkind IN ('r', 'm') AND relnamespace = 'public'::regnamespace AND NOT EXISTS (
  SELECT FROM pg_depend d WHERE d.objid = pg_class.oid AND d.deptype = 'e') ORDER BY relname;
SELECT 'large objects', count(*), sum(hashtextextended(encode(lo_get(oid), 'hex'), 0)) FROM pg_largeobject_metadata
"""
HINTS = """
Go on playing; ./sauvegarde demo --destroy removes it:

  ssh -F .lab/demo/ssh_config standby
  ./sauvegarde backup standby -i inventories/demo
  ./sauvegarde restore -i inventories/demo
  docs/runbook.md, which is written for real hosts, works here as well
"""
LATE = "UPDATE offers_offer SET views = views + 1"
CANARY = "Zorgolim"  # the family name of a person in production (inventories/demo/host_vars/prod.yml)


def ssh(host: str, *words: str, stdin: str | None = None) -> str:
    """Return what a command printed on a host. Raises CommandFailed with its own error."""
    command = ["ssh", "-F", str(STATE / "ssh_config"), host, *words]
    done = subprocess.run(command, input=stdin, capture_output=True, text=True, check=False)
    if done.returncode:
        raise CommandFailed(f"{' '.join(words)} on {host} ended with {done.returncode}.", done.stderr.strip())
    return done.stdout


def sql(host: str, statements: str, database: str = DATABASE) -> str:
    """Return what psql prints for the statements, run as the superuser of a host. Raises CommandFailed."""
    return ssh(host, f"cd / && sudo -u postgres psql -XAtq -v ON_ERROR_STOP=1 -d {database}", stdin=statements)


def expect(condition: object, what: str, why: str = "") -> None:
    """Raise CommandFailed unless the condition holds."""
    if not condition:
        raise CommandFailed(what, why)


def following(report: dict[str, Any]) -> list[str]:
    """Return the words of the command that a report names as the next."""
    (line,) = report["next"]
    return shlex.split(line)[1:]


class Demo:
    """The steps, in order. A step's docstring is its headline on the screen; the sentence it returns follows."""

    def __init__(self) -> None:
        self.before = self.standby = self.archive = ""
        self.following: list[str] = []  # the words of the command to type next

    def play(self, playbook: str, **options: Any) -> Played:
        """Run a playbook on the demo's inventory."""
        with progress() as show:
            return play(playbook, INVENTORY, show, **options)

    def start(self) -> str:
        """Start four hosts: production, its standby, the one that keeps the copies, and a developer's"""
        podman.remove(SCENARIO)
        lab.up(SCENARIO, quiet=True)
        return "real hosts, with systemd, cron and sshd: prod, standby, vault, dev"

    def install(self) -> str:
        """Install PostgreSQL, PostGIS and the backups (playbooks/site.yml)"""
        self.play("molecule/demo/prepare.yml")
        changed = self.play("playbooks/site.yml").changed
        return "from nothing, by changes: " + ", ".join(f"{host} {count}" for host, count in changed.items())

    def again(self) -> str:
        """Run it again"""
        changed = self.play("playbooks/site.yml").changed
        expect(not any(changed.values()), "The second run changed something.", str(changed))
        return "the second run changes nothing"

    def fill(self) -> str:
        """Set up a Django site: in production on PostGIS, filled, and at a developer's on SQLite"""
        self.play("molecule/_shared/deploy_site.yml")
        # The standby's own database has other data.
        sql("standby", "SET ROLE geotribu; CREATE TABLE essai AS SELECT n, md5(n::text) FROM generate_series(1, 500) n")
        self.standby = sql("standby", CONTENTS)
        offers = sql("prod", "SELECT count(*) FROM offers_offer").strip()
        size = sql("prod", f"SELECT pg_size_pretty(pg_database_size('{DATABASE}'))").strip()
        return f"{offers} offers in {size}: texts, geometries, users, permissions"

    def by_cron(self) -> str:
        """Let cron back it up: every minute, until it has, then once a day as before"""
        jobs = {"limit": "prod", "tags": "backup-configure"}
        self.play("playbooks/site.yml", variables={"demo_schedule": "* * * * *"}, **jobs)
        self.wait(self.last_run, "cron has run no job")
        self.play("playbooks/site.yml", **jobs)
        # On a slow machine cron may have started it again meanwhile.
        self.wait(lambda: not self.running(), "the job of cron's has not ended")
        run = self.last_run()
        expect(run["exit_code"] == 0, "The job that cron ran has failed.", self.journal())
        return f"{run['id']}, by cron: read back, fingerprinted, copied to vault"

    def wait(self, condition: Callable[[], object], otherwise: str) -> None:
        """Wait until a condition holds. Raises CommandFailed after PATIENCE seconds."""
        until = time.monotonic() + PATIENCE
        while not condition():
            expect(time.monotonic() < until, f"In {PATIENCE} s {otherwise}.", self.journal())
            time.sleep(1)

    def running(self) -> str:
        """Return the progress files of jobs that run on production; empty if none runs."""
        return ssh("prod", "sudo sh -c 'ls /var/lib/sauvegarde/*/progress.json 2>/dev/null || :'").strip()

    def last_run(self) -> dict[str, Any]:
        """Return the last run of the job of production's database, from its state file; {} before the first run."""
        state = ssh("prod", f"sudo cat /var/lib/sauvegarde/{DATABASE}/state.json 2>/dev/null || echo {{}}")
        last_run: dict[str, Any] = json.loads(state).get("last_run", {})
        return last_run

    def journal(self) -> str:
        """Return the last lines of the journal of production's jobs."""
        return ssh("prod", "sudo journalctl --no-pager -t sauvegarde -t CRON -n 40 -o cat")

    def by_hand(self) -> str:
        """Back it up by hand (./sauvegarde backup, status), then let the site go on"""
        self.command("backup", "prod", "-i", INVENTORY)
        self.command("status", "--limit", "prod", "-i", INVENTORY)
        self.archive = self.last_run()["id"]
        self.before = sql("prod", CONTENTS)
        sql("prod", LATE)
        expect(sql("prod", CONTENTS) != self.before, "What was written late has changed nothing.")
        return f"{self.archive}; after it, every offer is seen once more, which no archive has"

    def develop(self) -> str:
        """Give the developer production's data without anybody's personal data (playbooks/policy.yml, migrate.yml)"""
        path = STATE / "masking.yml"
        self.play("playbooks/policy.yml", variables={"migrate_source": "prod", "policy_file": str(path)})
        policy = yaml.safe_load(path.read_text())["migrate_policy"]
        # The draft knows fields by their names; that people are named in this text only a person knows.
        policy["models"]["offers.rawoffer"]["content"] = {"mask": "text"}
        variables = {"migrate_source": "prod", "migrate_target": "dev", "migrate_policy": policy}
        done = self.play("playbooks/migrate.yml", variables={**variables, "migrate_confirm": "cap.sqlite3@dev"})
        proof = done.result("Fill a side database, and prove it")["proof"]
        # Through a pipe: sudo writes down the words of a command.
        look = "sudo grep -rliaFf - /srv /var /tmp /root /home || :"
        expect(ssh("prod", look, stdin=CANARY), "Production does not know its own person.")
        files = ssh("dev", look, stdin=CANARY)
        expect(not files, "A person's name has reached the developer's host.", files)
        return f"{proof['rows']} rows proven; the name that was looked for is nowhere on the developer's host"

    def lose_production(self) -> str:
        """Destroy production: container, disk, local archives"""
        podman.run("podman", "rm", "--force", "--time", "0", "--volumes", f"sauvegarde-{SCENARIO}-prod")
        remaining = [one.host for one in podman.hosts() if one.scenario == SCENARIO]
        expect("prod" not in remaining, "prod still runs.")
        return "production is gone; what remains: " + ", ".join(remaining)

    def command(self, *words: str, code: int = 0) -> dict[str, Any]:
        """Show a command as it is typed, run it, and return its report. Raises CommandFailed for another exit code."""
        console.print(f"  $ {shlex.join(['./sauvegarde', *words])}", markup=False, style="bold")
        with subprocess.Popen(
            [ROOT / "sauvegarde", *words], cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        ) as running:
            for line in running.stdout or ():
                say(f"  {line.rstrip()}")
        expect(running.returncode == code, f"{words[0]} ended with {running.returncode}.")
        return run_record.read("last")

    def plan(self) -> str:
        """List what there is, and plan (./sauvegarde list, plan): nothing changes"""
        # 3: not all could be read, since production is gone.
        listed = self.command("list", DATABASE, "-i", INVENTORY, code=3)["result"]
        expect("prod" in listed["unread"], "prod answers, though it is gone.", str(listed["unread"]))
        there = [each for each in listed["archives"] if each["id"] == self.archive and each["where"] == "vault"]
        expect(there and there[0]["verified"], f"{self.archive} is not in the list.")
        source = ("--repository", "vault", "--of-host", "prod")
        self.following = following(self.command("plan", DATABASE, "--target", "standby", *source, "-i", INVENTORY))
        expect(sql("standby", CONTENTS) == self.standby, "The plan has changed the standby's database.")
        return "the archives on vault, and what a restore would replace and lose"

    def restore(self) -> str:
        """Restore on the standby from vault by the command that the plan ends with: prove it, swap it in"""
        report = self.command(*self.following)
        restored, self.following = report["result"]["restored"]["standby"], following(report)
        proof, pause = restored["proof"], f"{restored['seconds'] * 1000:.0f} ms"
        return f"{proof['rows']} rows proven by {proof['by']}; no answer for {pause} during the swap"

    def prove(self) -> str:
        """Ask both ends by plain SQL"""
        contents = sql("standby", CONTENTS)
        expect(contents == self.before, "The standby's data are not production's.", f"{self.before}\n{contents}")
        return "every table on the standby is what production had at the last backup, to the row"

    def rollback(self) -> str:
        """Go back by the command that the restore ends with, and forth again"""
        self.command(*self.following)
        expect(sql("standby", CONTENTS) == self.standby, "The standby's old database is not what it was.")
        seconds = self.command(*self.following)["result"]["seconds"]
        expect(sql("standby", CONTENTS) == self.before, "The restored database is not what it was.")
        return f"there and back, {seconds * 1000:.0f} ms; the other one is kept until it is removed by name"

    STEPS = (start, install, again, fill, by_cron, by_hand, develop, lose_production, plan, restore, prove, rollback)


@contextlib.contextmanager
def progress() -> Iterator[Show]:
    """Yield a `show` for playbooks: one line for the current task on a terminal, a line for each task elsewhere."""
    if console.is_terminal:
        with console.status("") as status:
            yield lambda kind, text: status.update(text) if kind == "task" else say(f"  {text}")
    else:
        yield lambda _kind, text: say(f"  {text}")


def destroy() -> int:
    """Remove what a demo has left. Returns the exit code."""
    podman.remove(SCENARIO)
    say("Nothing of the demo is left.")
    return 0


def run(keep: bool = False) -> int:
    """Run the demo and return the exit code. The hosts stay if `keep` is set or a step fails."""
    demo = Demo()
    shown: list[tuple[str, float, str]] = []
    began = time.monotonic()
    for number, step in enumerate(Demo.STEPS, 1):
        console.print(f"\n[bold]{number}/{len(Demo.STEPS)}  {step.__doc__}[/bold]")
        start = time.monotonic()
        try:
            sentence = step(demo)
        except (CommandFailed, podman.LabFailed) as failure:
            if isinstance(failure, podman.LabFailed):
                complain(str(failure))
            else:
                complain(failure.what, failure.why, failure.fix)
            say("The hosts stay, to be looked at: ./sauvegarde lab list; ./sauvegarde demo --destroy removes them.")
            return 1
        shown.append((step.__doc__ or "", time.monotonic() - start, sentence))
        console.print(f"[green]✓[/green] {sentence} [dim]({shown[-1][1]:.0f} s)[/dim]")
    summary(shown, time.monotonic() - began)
    if keep:
        say(HINTS)
    else:
        destroy()
        say("./sauvegarde demo --keep leaves the hosts, to go on playing.")
    return 0


def summary(shown: Sequence[tuple[str, float, str]], seconds: float) -> None:
    """Print what each step has shown, and how long it took."""
    console.print(f"\nAll of it in {seconds:.0f} s")
    table = Table("", "shown", "s", box=None)
    for number, (_, took, sentence) in enumerate(shown, 1):
        table.add_row(str(number), sentence, f"{took:.0f}")
    console.print(table, soft_wrap=False)  # its sentences are folded, not cut
