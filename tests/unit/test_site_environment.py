"""A site's description and its environment file."""

import pytest
from sauvegarde.django import site
from sauvegarde.errors import SauvegardeError


def test_environment_files_are_read_as_shells_and_systemd_write_them(tmp_path):
    path = tmp_path / ".env"
    path.write_text(
        "# a comment\n\nexport A=1\nB = 'two words' # said\nC=\"x=y\"\nD=postgis://u:p#w@h/d\nÉ=2\nE=\n",
        encoding="utf-8",
    )
    assert site.read_environment(str(path)) == {
        "A": "1", "B": "two words", "C": "x=y", "D": "postgis://u:p#w@h/d", "É": "2", "E": ""
    }  # fmt: skip


@pytest.mark.parametrize("line", ["nothing", "A B=1", "A='open"])
def test_a_line_that_is_none_is_named_without_its_value(tmp_path, line):
    path = tmp_path / ".env"
    path.write_text("OK=1\n" + line + "\n", encoding="utf-8")
    with pytest.raises(SauvegardeError, match="line 2") as caught:
        site.read_environment(str(path))
    assert "open" not in str(caught.value)


def test_a_site_is_described_whole(tmp_path):
    with pytest.raises(SauvegardeError) as caught:
        site.site({"path": str(tmp_path), "colour": "red"})
    assert "colour" in caught.value.why and "python, settings" in caught.value.why
    with pytest.raises(SauvegardeError, match="folder does not exist"):
        site.site({"path": "/nowhere", "python": "/bin/sh", "settings": "x"})


def test_the_environment_is_never_the_callers(tmp_path, monkeypatch):
    monkeypatch.setenv("DATABASE_URL", "production")
    (tmp_path / ".env").write_text("SECRET=1\n", encoding="utf-8")
    where = site.site({"path": str(tmp_path), "python": "/bin/sh", "settings": "x", "env_file": str(tmp_path / ".env")})
    values = site.environment(where)
    assert values["SECRET"] == "1"
    assert "DATABASE_URL" not in values and values["LC_ALL"] == "C.UTF-8"


def test_what_is_sent_to_the_site_is_what_ansible_brings():
    """Every module that the worker imports is among those that are sent."""
    sources = site.modules()
    for name, text in sources.items():
        for line in text.splitlines():
            if line.startswith("from .") and " import " in line and name.rsplit(".", 1)[-1].startswith("worker"):
                base, _, names = line[len("from ") :].partition(" import ")
                package = "sauvegarde" if base.startswith("..") else "sauvegarde.django"
                wanted = [base.strip(".")] if base.strip(".") else [each.strip() for each in names.split(",")]
                assert all(f"{package}.{each}" in sources for each in wanted), (name, line)
