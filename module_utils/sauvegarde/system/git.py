"""Commit files in a git repository where they changed, and push on request."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from ..errors import SauvegardeError
from . import process
from .run_as import call_as, command_prefix, home


@dataclass(frozen=True)
class Commit:
    """What `commit` did: the new commit, None where nothing changed, and whether something was pushed."""

    committed: str | None
    pushed: bool


def commit(
    repository: str | Path,
    paths: Iterable[str | Path],
    message: str,
    push: bool = False,
    user: str = "",
    name: str = "",
    email: str = "",
) -> Commit:
    """Commit the files where they differ from the repository, and push on request.

    user: OS user that runs git. name, email: the author, by default as git is configured.
    """
    git = _Git(repository, user, name, email)
    files = [str(path) for path in paths]
    git("add", "--", *files)
    committed = None
    if git.status("diff", "--cached", "--quiet", "--", *files):
        git("commit", "--quiet", "--message", message, "--", *files)
        committed = git("rev-parse", "HEAD").text.strip()
    # A push that failed the last time is repeated.
    pushed = push and (committed is not None or git("rev-list", "--count", "@{upstream}..HEAD").text.strip() != "0")
    if pushed:
        git("push", "--quiet")
    return Commit(committed, pushed)


def require_lfs(repository: str | Path, file: str, user: str = "") -> None:
    """Raise unless Git LFS stores the file: a database in git itself would make every clone larger for ever."""
    process.find("git-lfs")
    if not stored_by_lfs(repository, [file], user):
        raise SauvegardeError(
            f"{file} is not tracked by Git LFS.",
            fix=f"In {repository}: git lfs install, then git lfs track {file}, and commit .gitattributes.",
        )


def stored_by_lfs(repository: str | Path, files: Sequence[str], user: str = "") -> list[str]:
    """Return those files that git stores as pointers, with their contents elsewhere (.gitattributes)."""
    return [file for file, name in _filters(_Git(repository, user), files) if name == "lfs"]


def require_committable(repository: str | Path, files: Sequence[str], user: str = "") -> None:
    """Raise unless git can commit the files (paths inside the repository): their folders exist, no rule ignores them,
    and the filters that .gitattributes names for them work here."""
    for folder in sorted({str((Path(repository) / file).parent) for file in files}):
        if not call_as(user, os.path.isdir, folder):
            raise SauvegardeError(
                f"The folder does not exist in the repository: {folder}",
                "The job's file is written there and committed.",
                "Create it as the repository's owner, or correct the job's path.",
            )
    git = _Git(repository, user)
    # With --verbose it also finds files that a later rule (!name) includes again.
    ignored = [file for file in files if git.status("check-ignore", "--quiet", "--", file) == 0]
    if ignored:
        raise SauvegardeError(
            "git ignores what the job has to commit.",
            git("check-ignore", "--verbose", "--", *ignored).text.strip(),
            f"Remove that line of .gitignore in {repository}, or give the job another file.",
        )
    for file, name in _filters(git, files):
        _require_filter(git, repository, file, name)


def _filters(git: _Git, files: Iterable[str]) -> list[tuple[str, str]]:
    """Return (file, name of its filter) for the files that have one."""
    words = git("check-attr", "-z", "filter", "--", *files).text.split("\0")[:-1]
    return [(file, name) for file, name in zip(words[::3], words[2::3]) if name not in ("unspecified", "unset", "set")]


def _require_filter(git: _Git, repository: str | Path, file: str, name: str) -> None:
    """Raise unless the filter is set up. git ignores a filter that is not configured without a warning."""
    if name == "lfs":
        process.find("git-lfs")
    if any(git.status("config", "--get", f"filter.{name}.{key}") == 0 for key in ("clean", "process")):
        return
    fix = f"Configure the filter for the user that commits in {repository}, or correct .gitattributes."
    if name == "lfs":
        fix = f"As the user that commits, in {repository}: git lfs install. Or remove the file from .gitattributes."
    raise SauvegardeError(
        f"{file} goes through the filter “{name}”, which is not set up here.",
        "Its attributes say so (.gitattributes). git would commit it as it is.",
        fix,
    )


class _Git:
    """git in one repository, without questions to a terminal."""

    def __init__(self, repository: str | Path, user: str = "", name: str = "", email: str = "") -> None:
        self._folder = str(repository)
        self._prefix = command_prefix(user)
        self._environment = dict(process.BASE_ENVIRONMENT, GIT_TERMINAL_PROMPT="0", HOME=home(user))
        self._identity: list[str] = []
        if name:
            self._identity += ["-c", f"user.name={name}"]
        if email:
            self._identity += ["-c", f"user.email={email}"]

    def _run(self, arguments: tuple[str, ...], checked: bool) -> process.Result:
        command = [*self._prefix, process.find("git"), "-C", self._folder, *self._identity, *arguments]
        what = f"git {arguments[0]} failed in {self._folder}."
        return process.run(command, env=self._environment, checked=checked, what=what)

    def __call__(self, *arguments: str) -> process.Result:
        """Run git; raise unless it succeeds."""
        return self._run(arguments, True)

    def status(self, *arguments: str) -> int:
        """Return git's status, 0 or 1; raise for any other."""
        result = self._run(arguments, False)
        if result.status not in (0, 1):
            process.check(result, f"git {arguments[0]} failed in {self._folder}.")
        return result.status
