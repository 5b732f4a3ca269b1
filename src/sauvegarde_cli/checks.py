"""``./sauvegarde test``: lint, unit tests and the Molecule scenarios, each counted."""

import subprocess
import sys
import tempfile
import time
import xml.etree.ElementTree as ET
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, ThreadPoolExecutor, wait
from dataclasses import dataclass, replace
from pathlib import Path
from typing import IO, Any

from sauvegarde_cli import lab, supported
from sauvegarde_cli.check_names import benchmarks, names
from sauvegarde_cli.deprecations import read_deprecations
from sauvegarde_cli.system import ROOT, CommandFailed, as_root, install_packages, tool_environment, tools
from sauvegarde_cli.terminal import heading, say

LINTERS = (
    ("ruff", "check", "."),
    ("ruff", "format", "--check", "."),
    ("mypy",),
    ("yamllint", "--strict", "."),
    ("ansible-lint", "--offline", "--strict"),
)


# What the engine's tests start on this machine, as Debian packages.
ENGINE_PACKAGES = ("postgresql", "postgis", "postgresql-contrib", "zstd", "restic")

# Scenarios wait for hosts more than they compute, so that two at once take little longer than one.
AT_ONCE = 2
# The longest start first, so that no long one runs alone at the end.
LONGEST = ("debian", "backup", "restore", "django", "majors", "demo", "existing", "sink", "legacy", "controller")
LINES_OF_A_FAILURE = 60
ANSIBLE_LOG = "ansible.log"  # in the folder of a Part's reports
HEARTBEAT = 30  # seconds between two lines that say what runs, where its own output waits for its end


@dataclass(frozen=True)
class Count:
    """Tests of one part of the run: passed, failed (errors included) and skipped."""

    passed: int = 0
    failed: int = 0
    skipped: int = 0

    def plus(self, other: "Count") -> "Count":
        """Return the sum, number by number."""
        return Count(self.passed + other.passed, self.failed + other.failed, self.skipped + other.skipped)


@dataclass(frozen=True)
class Part:
    """The result of one name of ``test``. `failures` has a text for each failed test."""

    name: str
    count: Count
    seconds: float
    failures: tuple[str, ...] = ()


def scenario_file(scenario: str, name: str) -> list[str]:
    """Return the lines of an optional file of a scenario, for example ``needs``."""
    path = ROOT / "molecule" / scenario / name
    return path.read_text().split() if path.is_file() else []


def read_count(reports: Path) -> Count:
    """Return the count of all JUnit reports in a folder; zero where none was written."""
    total = Count()
    for report in reports.glob("*.xml"):
        for suite in ET.parse(report).getroot().iter("testsuite"):
            ran, failed, errors, skipped = (
                int(suite.get(key, "0")) for key in ("tests", "failures", "errors", "skipped")
            )
            total = total.plus(Count(ran - failed - errors - skipped, failed + errors, skipped))
    return total


def read_failures(reports: Path) -> tuple[str, ...]:
    """Return a text for each failure in a folder of reports.

    A failed test has its name, then pytest's own words. Each deprecation warning of Ansible is a failure too.
    """
    failures = []
    for report in sorted(reports.glob("*.xml")):
        for case in ET.parse(report).getroot().iter("testcase"):
            for outcome in (*case.iter("failure"), *case.iter("error")):
                name = f"{report.stem}: {case.get('classname')}::{case.get('name')}"
                failures.append(f"{name}\n{(outcome.text or outcome.get('message') or '').strip()}")
    failures += [f"deprecated in Ansible\n{warning}" for warning in read_deprecations(reports / ANSIBLE_LOG)]
    return tuple(failures)


def lint(output: IO[str] | None = None) -> Count:
    """Run every linter over the whole tree and return the count: each linter is a test.

    `output` is a file to write to in place of the terminal.
    """
    bin_folder = tools()
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
        count = count.plus(Count(passed=1) if done.returncode == 0 else Count(failed=1))
    return count


def run_pytest_in(
    command: Sequence[str | Path], bin_folder: Path, reports: Path, output: IO[str] | None = None
) -> Count:
    """Run a command that starts pytest somewhere below it, and return the count. Its own failure counts as one more.

    Tests that have others run elsewhere leave those' JUnit reports in the folder SAUVEGARDE_REPORTS, where they are
    counted too. output: a file to write to in place of the terminal.
    """
    reports.mkdir()
    environ = tool_environment(bin_folder)
    environ["PYTEST_ADDOPTS"] = f"{environ.get('PYTEST_ADDOPTS', '')} --junitxml={reports / 'report.xml'}".strip()
    environ["SAUVEGARDE_REPORTS"] = str(reports)
    # Every playbook below writes its warnings there, whoever starts it.
    environ["ANSIBLE_LOG_PATH"] = str(reports / ANSIBLE_LOG)
    done = subprocess.run(
        command, cwd=ROOT, env=environ, check=False, stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT
    )
    count = read_count(reports)
    count = count.plus(Count(failed=len(read_deprecations(reports / ANSIBLE_LOG))))
    if done.returncode and not count.failed:
        count = count.plus(Count(failed=1))
    if not count.passed and not count.failed:
        print(f"No test ran: {' '.join(str(word) for word in command)}", file=output or sys.stdout, flush=True)
        count = count.plus(Count(failed=1))
    return count


def unit(reports: Path, output: IO[str] | None = None) -> Count:
    """Run the tests that need no host."""
    bin_folder = tools()
    return run_pytest_in([bin_folder / "pytest", "tests/unit"], bin_folder, reports / "unit", output)


def engine(words: Sequence[str]) -> int:
    """Run the engine's tests against a PostgreSQL server that they start on this machine; return pytest's exit code.

    Without words, the tests that need no Django site run; with words, pytest gets these.
    """
    as_root("A test server that is owned by the user postgres")
    install_packages(ENGINE_PACKAGES, "the engine's tests")
    bin_folder = tools()
    selection = list(words) or ["-m", "not site and not slow"]
    selection += [] if any(word.startswith("tests/") for word in words) else ["tests/engine"]
    command: list[str | Path] = [bin_folder / "pytest", "-q", *selection]
    return subprocess.run(command, cwd=ROOT, env=tool_environment(bin_folder), check=False).returncode


def without_hosts(names: Sequence[str], reports: Path, output: IO[str] | None = None) -> list[Part]:
    """Run lint and unit tests, as far as they are among the names; return their Parts."""
    work = {"lint": lambda: lint(output), "unit": lambda: unit(reports, output)}
    return [timed(name, reports, work[name]) for name in work if name in names]


def beside_preparation(names: Sequence[str], scenarios: Sequence[str], reports: Path) -> list[Part]:
    """Prepare the scenarios while lint and unit tests run; return the latter's Parts after printing their output."""
    if names:
        tools()
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


def prepare(scenario: str) -> None:
    """Prepare what a scenario needs of this machine: the environment, packages and images."""
    tools()
    lab.ready(scenario)
    install_packages(scenario_file(scenario, "needs"), f"the scenario {scenario}")


def on_hosts(name: str, reports: Path, output: IO[str] | None = None) -> Count:
    """Run the demo, or a scenario from create to destroy."""
    bin_folder = tools()
    command: list[str | Path] = [bin_folder / "pytest", "-v", "--capture=no", "tests/demo"]
    if name != "demo":
        command = lab.molecule_command(bin_folder, "test", name)
    return run_pytest_in(command, bin_folder, reports / name, output)


def timed(name: str, reports: Path, work: Callable[..., Count], *arguments: Any) -> Part:
    """Run `work` and return the Part of this name. `work` may leave reports in a folder of that name."""
    start = time.monotonic()
    count = work(*arguments)
    return Part(name, count, time.monotonic() - start, read_failures(reports / name))


def print_unconfirmed(parts: Iterable[Part], reports: Path) -> None:
    """Print each row of docs/supported.json that the run of its scenario has not confirmed.

    That is no failure: another controller, or a newer package in Debian, has other versions.
    """
    for part in parts:
        if not part.count.failed:
            rows = supported.rows_of(reports / part.name, part.name)
            for sentence in supported.unconfirmed(part.name, rows, supported.recorded()):
                say(sentence)


def side_by_side(scenarios: Sequence[str], reports: Path) -> Iterator[Part]:
    """Run scenarios a few at a time. Print the output of each when it ends, then yield its Part."""
    logs = {name: reports / f"{name}.log" for name in scenarios}

    def run(name: str) -> Part:
        with logs[name].open("w") as output:
            part = timed(name, reports, on_hosts, name, reports, output)
        if part.count.failed and not part.failures:
            part = replace(
                part, failures=(f"{name}, before or beside its tests\n{logs[name].read_text(errors='replace')}",)
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


def last_line(log: Path) -> str:
    """Return the last line with words of a file that is being written, without the rulers around it."""
    lines = [line.strip(" *=-") for line in log.read_text(errors="replace")[-4000:].splitlines()]
    return next((line for line in reversed(lines) if line), "starts")[:120]


def test(requested: Sequence[str], record: bool = False) -> int:
    """Run the named tests (all without a name), print the results and return the exit code.

    `record` writes what the scenarios that passed ran on to docs/supported.json.

    Raises CommandFailed for a name that does not exist.
    """
    if requested and requested[0] == "engine":
        return engine(requested[1:])
    valid = names()
    unknown = [name for name in requested if name not in valid]
    if unknown:
        raise CommandFailed(f"there is no test named {', '.join(unknown)}.", fix=f"The names are: {', '.join(valid)}.")
    selected = list(requested) or [name for name in valid if name != "engine"]
    with_hosts = [name for name in selected if name not in ("lint", "unit")]
    if with_hosts:
        as_root("Starting hosts to test on")
    others = [name for name in selected if name not in with_hosts]
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
        if not record:
            print_unconfirmed(parts, reports)
        else:
            passed = [part.name for part in parts if not part.count.failed]
            supported.write({name: rows for name in passed if (rows := supported.rows_of(reports / name, name))})
    return report(parts)


def report(parts: Sequence[Part]) -> int:
    """Print failures, a line for each Part and the closing count; return 0 if all passed."""
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
    total = Count()
    for part in parts:
        total = total.plus(part.count)
    print(f"{total.passed} passed, {total.failed} failed, {total.skipped} skipped", flush=True)
    return 1 if total.failed else 0


def bench(name: str, words: Sequence[str] = ()) -> int:
    """Run one benchmark with its own words and return its exit code. Its last line is JSON.

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
    command: list[str | Path] = [bin_folder / "python", ROOT / "benchmarks" / f"{name}.py", *words]
    return subprocess.run(command, cwd=ROOT, env=tool_environment(bin_folder), check=False).returncode
