"""git in one repository: what changed among some files is committed, and pushed on request."""

import os
from pathlib import Path

from ..django.site import as_user, home
from ..errors import SauvegardeError
from . import process
from .run_as import acting_as


def commit(repository, paths, message, push=False, user="", name="", email=""):
    """Commit the files where they differ from what the repository has, and push on request.

    `user`: whom to run git as. Returns {"committed": new commit or None, "pushed": bool}.
    """
    git = _Git(repository, user, name, email)
    git("add", "--", *paths)
    commit_made = None
    if git.status("diff", "--cached", "--quiet", "--", *paths):
        git("commit", "--quiet", "--message", message, "--", *paths)
        commit_made = git("rev-parse", "HEAD").text.strip()
    # A push that failed the last time is made up for.
    ahead = push and (commit_made or git("rev-list", "--count", "@{upstream}..HEAD").text.strip() != "0")
    if ahead:
        git("push", "--quiet")
    return {"committed": commit_made, "pushed": bool(ahead)}


def require_lfs(repository, file, user=""):
    """Raise unless Git LFS keeps the file: a database in git itself would make every clone larger for ever."""
    process.find("git-lfs")
    if not kept_by_lfs(repository, [file], user):
        raise SauvegardeError(
            f"{file} is not tracked by Git LFS.",
            fix=f"In {repository}: git lfs install, then git lfs track {file}, and commit .gitattributes.",
        )


def kept_by_lfs(repository, files, user=""):
    """Those of the files that git keeps as pointers, their contents elsewhere, as .gitattributes says."""
    return [file for file, name in _filters(_Git(repository, user), files) if name == "lfs"]


def require_place(repository, files, user=""):
    """Raise unless git would take the files, paths inside the repository: their folders exist, no rule ignores them,
    and the filters that .gitattributes names for them work here."""
    for folder in sorted({str((Path(repository) / file).parent) for file in files}):
        if not acting_as(user, os.path.isdir, folder):
            raise SauvegardeError(
                f"The folder does not exist in the repository: {folder}",
                "The job's file is written there and committed.",
                "Create it as the repository's owner, or correct the job's path.",
            )
    git = _Git(repository, user)
    # With --verbose it also finds files that a later rule (!name) takes back.
    ignored = [file for file in files if git.status("check-ignore", "--quiet", "--", file) == 0]
    if ignored:
        raise SauvegardeError(
            "git ignores what the job has to commit.",
            git("check-ignore", "--verbose", "--", *ignored).text.strip(),
            f"Remove that line of .gitignore in {repository}, or give the job another file.",
        )
    for file, name in _filters(git, files):
        _require_filter(git, repository, file, name)


def _filters(git, files):
    """(file, name of its filter) of the files that have one."""
    words = git("check-attr", "-z", "filter", "--", *files).text.split("\0")[:-1]
    found = zip(words[::3], words[2::3])
    return [(file, name) for file, name in found if name not in ("unspecified", "unset", "set")]


def _require_filter(git, repository, file, name):
    """Raise unless the filter is set up. A filter that is not configured is passed over by git without a word."""
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
    """git, never asking anything."""

    def __init__(self, repository, user="", name="", email=""):
        self._folder = str(repository)
        self._prefix = as_user(user)
        self._environment = dict(process.BASE_ENVIRONMENT, GIT_TERMINAL_PROMPT="0", HOME=home(user))
        self._identity = []
        if name:
            self._identity += ["-c", f"user.name={name}"]
        if email:
            self._identity += ["-c", f"user.email={email}"]

    def _run(self, arguments, checked):
        command = [*self._prefix, process.find("git"), "-C", self._folder, *self._identity, *arguments]
        what = f"git {arguments[0]} failed in {self._folder}."
        return process.run(command, env=self._environment, checked=checked, what=what)

    def __call__(self, *arguments):
        return self._run(arguments, True)

    def status(self, *arguments):
        result = self._run(arguments, False)
        if result.status not in (0, 1):
            process.check(result, f"git {arguments[0]} failed in {self._folder}.")
        return result.status
