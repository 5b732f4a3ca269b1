"""``./sauvegarde test``: lint, unit tests and the Molecule scenarios, each counted."""

import subprocess
import sys
import tempfile
import time
import xml.etree.ElementTree as ET
from concurrent.futures import FIRST_COMPLETED, ThreadPoolExecutor, wait
from pathlib import Path
from typing import NamedTuple

from sauvegarde_cli import environment, lab
from sauvegarde_cli.system import ROOT, CommandFailed, as_root, install_packages, tool_environment, tools
from sauvegarde_cli.terminal import heading, say

# The linters live in the main lane's lock only; what they read does not depend on the lane.
LINTERS = (
    ("ruff", "check", "."),
    ("ruff", "format", "--check", "."),
    ("yamllint", "--strict", "."),
    ("ansible-lint", "--offline", "--strict"),
    ("vermin", "--target=3.6-", "--no-tips", "--violations", "--eval-annotations", "module_utils", "library"),
)


# Scenarios wait for hosts more than they compute, so that two at once take little longer than one.
AT_ONCE = 2
# Those that take longest start first, or the last one runs on alone.
LONGEST = ("debian", "backup", "restore", "django", "demo", "existing")
LINES_OF_A_FAILURE = 60
HEARTBEAT = 30  # seconds between two lines that say what runs, where its own output waits for its end


class Count(NamedTuple):
    """Tests of one part of the run: passed, failed (errors included) and skipped."""

    passed: int = 0
    failed: int = 0
    skipped: int = 0

    def __add__(self, other):
        return Count(*(mine + theirs for mine, theirs in zip(self, other, strict=True)))


class Part(NamedTuple):
    """What one name given to ``test`` came to; failures: what pytest said of each test that failed."""

    name: str
    count: Count
    seconds: float
    failures: tuple[str, ...] = ()


def scenarios():
    """The names of the Molecule scenarios."""
    return sorted(path.parent.name for path in (ROOT / "molecule").glob("[!_]*/tests"))


def names():
    """Everything that ``test`` knows by name."""
    return ["lint", "unit", *scenarios(), "demo"]


def scenario_file(scenario, name):
    """The lines of an optional one-word-a-line file of a scenario (``lane``, ``needs``)."""
    path = ROOT / "molecule" / scenario / name
    return path.read_text().split() if path.is_file() else []


def read_count(reports):
    """The count of the JUnit reports of pytest's in a folder; none where none was written."""
    total = Count()
    for report in reports.glob("*.xml"):
        for suite in ET.parse(report).getroot().iter("testsuite"):
            ran, failed, errors, skipped = (
                int(suite.get(key, "0")) for key in ("tests", "failures", "errors", "skipped")
            )
            total += Count(ran - failed - errors - skipped, failed + errors, skipped)
    return total


def read_failures(reports):
    """What the JUnit reports in a folder say of each test that failed: its name, then pytest's own account of it."""
    failures = []
    for report in sorted(reports.glob("*.xml")):
        for case in ET.parse(report).getroot().iter("testcase"):
            for outcome in (*case.iter("failure"), *case.iter("error")):
                name = f"{report.stem}: {case.get('classname')}::{case.get('name')}"
                failures.append(f"{name}\n{(outcome.text or outcome.get('message', '')).strip()}")
    return tuple(failures)


def lint(output=None):
    """Run every linter over the whole tree; each one counts as a test. output: a file in place of the terminal."""
    bin_folder = tools(environment.LANES[0])
    count = Count()
    for command in LINTERS:
        print(f"$ {' '.join(command)}", file=output or sys.stdout, flush=True)
        done = subprocess.run(
            [bin_folder / command[0], *command[1:]],
            cwd=ROOT,
            env=tool_environment(bin_folder),
            check=False,
            stdout=output,
            stderr=subprocess.STDOUT if output else None,
        )
        count += Count(passed=1) if done.returncode == 0 else Count(failed=1)
    return count


def run_pytest_in(command, bin_folder, reports, output=None):
    """Run a command that runs pytest somewhere below it; its count, with a failure of its own counted as one more.

    Tests that have others run elsewhere leave those' JUnit reports in the folder SAUVEGARDE_REPORTS, where they are
    counted too. output: a file to write to in place of the terminal.
    """
    reports.mkdir()
    environ = tool_environment(bin_folder)
    environ["PYTEST_ADDOPTS"] = f"{environ.get('PYTEST_ADDOPTS', '')} --junitxml={reports / 'report.xml'}".strip()
    environ["SAUVEGARDE_REPORTS"] = str(reports)
    done = subprocess.run(
        command, cwd=ROOT, env=environ, check=False, stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT
    )
    count = read_count(reports)
    if done.returncode and not count.failed:
        count += Count(failed=1)
    if not count.passed and not count.failed:
        print(f"No test ran: {' '.join(str(word) for word in command)}", file=output or sys.stdout, flush=True)
        count += Count(failed=1)
    return count


def unit(reports, output=None):
    """The tests that need no host, in the main lane, whose lock has what they need."""
    bin_folder = tools(environment.LANES[0])
    return run_pytest_in([bin_folder / "pytest", "tests/unit"], bin_folder, reports / "unit", output)


def without_hosts(names, reports, output=None):
    """The Parts of lint and unit tests, as far as they are among the names."""
    work = {"lint": lambda: lint(output), "unit": lambda: unit(reports, output)}
    return [timed(name, reports, work[name]) for name in work if name in names]


def beside_preparation(names, scenarios, reports):
    """Prepare the scenarios, with lint and unit tests meanwhile; returns their Parts once their output is printed."""
    if names:
        tools(environment.LANES[0])
    log = reports / "without-hosts.log"
    with log.open("w") as output, ThreadPoolExecutor(1) as pool:
        running = pool.submit(without_hosts, names, reports, output)
        for name in scenarios:
            prepare(name)
        parts = running.result()
    if names:
        heading(" and ".join(part.name for part in parts))
        sys.stdout.write(log.read_text(errors="replace"))
        sys.stdout.flush()
    return parts


def lane(scenario):
    """The ansible-core line that a scenario runs in."""
    return (scenario_file(scenario, "lane") or [environment.lane()])[0]


def prepare(scenario):
    """Have all that a scenario needs of this machine, one after another: its lane's environment, packages, images."""
    tools(lane(scenario))
    lab.ready(scenario)
    install_packages(scenario_file(scenario, "needs"), f"the scenario {scenario}")


def on_hosts(name, reports, output=None):
    """The demo, or a scenario from create to destroy in its own ansible-core lane."""
    bin_folder = tools(lane(name))
    demo = [bin_folder / "pytest", "-v", "--capture=no", "tests/demo"]
    command = demo if name == "demo" else lab.molecule_command(bin_folder, "test", name)
    return run_pytest_in(command, bin_folder, reports / name, output)


def timed(name, reports, work, *arguments):
    """The Part of a name whose count `work` returns, and whose reports it may leave in a folder of that name."""
    start = time.monotonic()
    count = work(*arguments)
    return Part(name, count, time.monotonic() - start, read_failures(reports / name))


def side_by_side(scenarios, reports):
    """Run scenarios a few at a time; yields each one's Part as it ends, its output printed whole before."""
    logs = {name: reports / f"{name}.log" for name in scenarios}

    def run(name):
        with logs[name].open("w") as output:
            part = timed(name, reports, on_hosts, name, reports, output)
        if part.count.failed and not part.failures:
            part = part._replace(
                failures=(f"{name}, before or beside its tests\n{logs[name].read_text(errors='replace')}",)
            )
        return part

    start = time.monotonic()
    scenarios = sorted(scenarios, key=lambda name: LONGEST.index(name) if name in LONGEST else len(LONGEST))
    with ThreadPoolExecutor(AT_ONCE) as pool:
        running = {pool.submit(run, name): name for name in scenarios}
        try:
            while running:
                ended, _ = wait(running, timeout=HEARTBEAT, return_when=FIRST_COMPLETED)
                for one in ended:
                    name = running.pop(one)
                    heading(name)
                    sys.stdout.write(logs[name].read_text(errors="replace"))
                    sys.stdout.flush()
                    yield one.result()
                for name in running.values() if not ended else []:
                    if logs[name].is_file():
                        say(f"{time.monotonic() - start:4.0f} s  {name}: {last_line(logs[name])}")
        except KeyboardInterrupt:
            pool.shutdown(wait=False, cancel_futures=True)
            raise


def last_line(log):
    """The last line with words in a file that is being written, without the rulers around it."""
    lines = [line.strip(" *=-") for line in log.read_text(errors="replace")[-4000:].splitlines()]
    return next((line for line in reversed(lines) if line), "starts")[:120]


def test(wanted):
    """Run what was asked for (all without a name), print what came of it. Returns the exit code.

    Raises CommandFailed for a name that does not exist.
    """
    known = names()
    unknown = [name for name in wanted if name not in known]
    if unknown:
        raise CommandFailed(f"there is no test named {', '.join(unknown)}.", fix=f"The names are: {', '.join(known)}.")
    wanted = wanted or known
    with_hosts = [name for name in wanted if name not in ("lint", "unit")]
    if with_hosts:
        as_root("Starting hosts to test on")
    others = [name for name in wanted if name not in with_hosts]
    with tempfile.TemporaryDirectory(prefix="sauvegarde-test-") as folder:
        reports = Path(folder)
        if not with_hosts:
            return report(without_hosts(others, reports))
        parts = beside_preparation(others, with_hosts, reports)
        if len(with_hosts) == 1:
            heading(with_hosts[0])
            parts.append(timed(with_hosts[0], reports, on_hosts, with_hosts[0], reports))
        else:
            parts += side_by_side(with_hosts, reports)
    return report(parts)


def report(parts):
    """Print what failed, a line a part and the closing count, where all can be read at the end; 0 where all passed."""
    for part in parts:
        for failure in part.failures:
            heading(f"Failed in {part.name}")
            print("\n".join(failure.splitlines()[:1] + failure.splitlines()[1:][-LINES_OF_A_FAILURE:]), flush=True)
    heading("Summary")
    for part in parts:
        outcome = "FAILED" if part.count.failed else "ok"
        say(
            f"{part.name:<12} {outcome:<7} {part.count.passed} passed, {part.count.failed} failed, "
            f"{part.count.skipped} skipped in {part.seconds:.0f} s"
        )
    total = sum((part.count for part in parts), Count())
    print(f"{total.passed} passed, {total.failed} failed, {total.skipped} skipped", flush=True)
    return 1 if total.failed else 0


def benchmarks():
    """The names of the benchmarks."""
    return sorted(path.stem for path in (ROOT / "benchmarks").glob("[!_]*.py"))


def bench(name, words=()):
    """Run one benchmark, with its own words; its last line is JSON. Returns its exit code.

    Raises CommandFailed for an unknown name.
    """
    if name not in benchmarks():
        raise CommandFailed(
            f"there is no benchmark named {name}.",
            fix=f"The names are: {', '.join(benchmarks()) or 'none yet'}.",
        )
    as_root("A benchmark on real hosts")
    lab.ensure_needs()
    bin_folder = tools()
    command = [bin_folder / "python", ROOT / "benchmarks" / f"{name}.py", *words]
    return subprocess.run(command, cwd=ROOT, env=tool_environment(bin_folder), check=False).returncode
