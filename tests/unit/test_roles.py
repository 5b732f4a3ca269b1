"""What every role promises: its defaults, its argument_specs and the variables that it reads are the same."""

import re
import runpy

import pytest
import yaml
from sauvegarde import config
from sauvegarde.backup import kinds

from sauvegarde_cli.system import ROOT

ROLES = sorted(path.parent.parent for path in (ROOT / "roles").glob("*/defaults/main.yml"))


@pytest.fixture(params=ROLES, ids=lambda role: role.name)
def role(request):
    return request.param


def defaults(role):
    return yaml.safe_load((role / "defaults/main.yml").read_text())


def options(role):
    return yaml.safe_load((role / "meta/argument_specs.yml").read_text())["argument_specs"]["main"]["options"]


def variables_read(role):
    """The role's public variables in its tasks, templates, variables and handlers: {name: a file that has it}.

    Modules and internal variables have the same prefix, behind a dot or an underscore.
    """
    collected = {}
    for folder in ("tasks", "templates", "vars", "handlers"):
        for path in sorted((role / folder).rglob("*.*")):
            for name in re.findall(rf"(?<![\w./@-]){role.name}_[a-z0-9_]+\b", path.read_text()):
                collected.setdefault(name, path.relative_to(role))
    return collected


def test_there_are_roles():
    assert ROLES


def test_specs_and_defaults_have_the_same_variables(role):
    required = {name for name, option in options(role).items() if option.get("required")}
    assert set(options(role)) - required == set(defaults(role))


def test_specs_and_defaults_have_the_same_values(role):
    specs = options(role)
    values = {name: specs.get(name, {}).get("default") for name in defaults(role)}
    # As text: in Python 5432 == 5432.0 and True == 1.
    assert {name: repr(value) for name, value in values.items()} == {
        name: repr(value) for name, value in defaults(role).items()
    }


def test_variables_have_the_role_s_prefix(role):
    assert [name for name in options(role) if not name.startswith(f"{role.name}_")] == []


def test_variables_that_are_read_are_declared(role):
    read = variables_read(role)
    assert {name: str(path) for name, path in read.items() if name not in options(role)} == {}


def test_variables_that_are_declared_are_read(role):
    assert set(options(role)) - set(variables_read(role)) == set()


def test_booleans_are_taken_as_ansible_users_type_them(role):
    """An extra variable is a text, "true" or "no": a boolean is never read without the filter bool."""
    booleans = [name for name, option in options(role).items() if option["type"] == "bool"]
    bare = []
    for folder in ("tasks", "templates", "vars", "handlers"):
        for path in sorted((role / folder).rglob("*.*")):
            text = re.sub(r"(?m)^\s*#.*$", "", path.read_text())
            # Words of a message name a variable, too: those are in no expression.
            expressions = re.findall(r"\{[{%](.*?)[%}]\}", text, re.DOTALL) + re.findall(
                r"(?m)^\s*(?:when|that|failed_when): (.*)$", text
            )
            for name in booleans:
                bare += [
                    path.name
                    for each in expressions
                    if re.search(rf"(?<![\w'\"~]){name}\b(?!\s*\|\s*bool|['\":])", each)
                ]
    assert bare == []


def plugin(name):
    """The names of a filter plugin's file."""
    return runpy.run_path(str(ROOT / f"plugins/filter/{name}.py"), run_name=name)


def job_options():
    return options(ROOT / "roles/backup")["backup_jobs"]["options"]


def test_the_role_reads_what_the_kinds_declare():
    """The role's filters parse the files that the engine imports."""
    declared = plugin("sauvegarde_kinds")["declared"]()
    assert {name: (kind.options, kind.required, kind.packages) for name, kind in declared.items()} == {
        name: (kind.options, kind.required, kind.packages) for name, kind in kinds.declarations().items()
    }


def test_every_setting_of_a_kind_is_an_option_of_backup_jobs():
    """And an option is a setting of a kind or of every job, or the role leaves it out of the job's file."""
    internal = {"archive"}  # migrations set it
    declared = {key for declaration in kinds.declarations().values() for key in declaration.options}
    assert declared - internal <= set(job_options())
    assert set(job_options()) <= declared | config.JOB_KEYS | {"level", "schedule", "ping_url"}


@pytest.mark.parametrize("kind", sorted(kinds.kinds()))
def test_the_role_refuses_a_job_without_what_its_kind_requires(kind):
    objections = plugin("sauvegarde_kinds")["objections"]
    required = kinds.declarations()[kind].required
    for key in required:
        sentences = objections({"name": "a", "kind": kind, **{other: "/x" for other in required if other != key}})
        assert len(sentences) == 1 and f'"{key}"' in sentences[0]
    assert objections({"name": "a", "kind": kind, **dict.fromkeys(required, "/x")}) == []


@pytest.mark.parametrize(
    "job, word",
    [
        ({"kind": "mysql"}, "no such kind"),
        ({"kind": "pg_dump", "database": "a", "databases": ["b"]}, "either"),
        ({"kind": "pg_dump", "databases": ["a", ""]}, "empty name"),
        ({"kind": "pg_dump", "database": "a", "exclude": ["b"]}, '"exclude"'),
        ({"kind": "globals", "databases": ["a"]}, "does not go with its kind"),
        ({"kind": "sqlite", "path": "db.sqlite3"}, "absolute"),
    ],
)
def test_the_role_refuses_options_that_do_not_go_together(job, word):
    (sentence,) = plugin("sauvegarde_kinds")["objections"]({"name": "a", **job})
    assert word in sentence


def test_several_databases_take_the_place_of_one():
    objections = plugin("sauvegarde_kinds")["objections"]
    assert objections({"name": "a", "kind": "pg_dump", "databases": ["all"], "exclude": ["b"]}) == []


def test_the_role_installs_what_the_kinds_of_publishing_jobs_need():
    packages = plugin("sauvegarde_kinds")["packages"]
    assert packages([{"kind": "sqlite"}, {"kind": "pg_dump"}]) == []
    of_fixtures = ["ca-certificates", "git", "openssh-client"]
    assert packages([{"kind": "fixtures", "repository": {"path": "/x"}}]) == of_fixtures
    assert "git-lfs" in packages([{"kind": "sqlite", "repository": {"path": "/x"}}])
    assert plugin("sauvegarde_kinds")["kinds_with"]("connection") == ["globals", "pg_dump"]


@pytest.mark.parametrize("kind", sorted(kinds.kinds()))
def test_the_playbook_that_restores_a_kind_exists(kind):
    assert (ROOT / kinds.declarations()[kind].restored_by).is_file()


def undescribed(specs, prefix=""):
    """The options, and options of list items, that lack a description or a type."""
    for name, option in specs.items():
        if not option.get("description") or not option.get("type"):
            yield prefix + name
        yield from undescribed(option.get("options", {}), f"{prefix}{name}.")


def test_options_say_what_they_are(role):
    assert list(undescribed(options(role))) == []


def test_every_default_stands_under_prose_of_its_own_or_its_section(role):
    """A variable's line follows a comment, or another variable of the same paragraph."""
    bare = [
        paragraph.strip().splitlines()[0]
        for paragraph in re.split(r"\n\s*\n", (role / "defaults/main.yml").read_text())
        if paragraph.strip() and not paragraph.lstrip("-\n ").startswith("#")
    ]
    assert bare == []


def test_the_readme_names_every_variable(role):
    readme = (role / "README.md").read_text()
    assert [name for name in options(role) if f"`{name}`" not in readme] == []
