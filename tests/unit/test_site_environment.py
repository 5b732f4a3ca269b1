"""A site's description and its environment file."""

import os

import pytest
from sauvegarde.django import environment_file, site
from sauvegarde.errors import SauvegardeError

# As python-dotenv 1.2 reads them: text, and what it sets where HOME=/home/site is set already.
READ = [
    ("# a comment\n\nexport A=1\nB = 'two words' # said\nC=\"x=y\"\n", {"A": "1", "B": "two words", "C": "x=y"}),
    ("D=postgis://u:p#w@h/d\nÉ=2\nE=\n", {"D": "postgis://u:p#w@h/d", "É": "2", "E": ""}),
    ("A=a b  # c\nB=a#b\nC= # c\nD=#d\nF=  x  ", {"A": "a b", "B": "a#b", "C": "", "D": "#d", "F": "x"}),
    ("A=1\nB=${A}2\nC='${B}3'\nD=\"${C}\"", {"A": "1", "B": "12", "C": "123", "D": "123"}),
    (
        "A=${HOME}/d\nB=${NONE}\nC=${NONE:-x y}\nD=${HOME:-z}",
        {"A": "/home/site/d", "B": "", "C": "x y", "D": "/home/site"},
    ),
    ("A=$HOME $A\nB=${A\nC=$${HOME}", {"A": "$HOME $A", "B": "${A", "C": "$/home/site"}),
    ("PATH=/srv:${PATH}\n", {"PATH": "/srv:/bin"}),
    ("A='one\ntwo # no comment\n'\nB=\"three\r\nfour\"", {"A": "one\ntwo # no comment\n", "B": "three\nfour"}),
    ("A=\"x\\n\\t\\\"\\\\ \\x\"\nB='x\\n\\'\\\\'", {"A": 'x\n\t"\\ \\x', "B": "x\\n'\\"}),
    ("'A b'=1\nexport  C=2\n  D  =  3\n", {"A b": "1", "C": "2", "D": "3"}),
    ("\ufeffA=1\r\nB=2\rC=3", {"A": "1", "B": "2", "C": "3"}),
    ("A=1\nB\nexport C\nA\nD=${B:-x}", {"D": ""}),
    ('A=it\'s\nB=x"y"\nC=a\\\nD=1', {"A": "it's", "B": 'x"y"', "C": "a\\", "D": "1"}),
    ("A=1\nA=2\n", {"A": "2"}),
]


@pytest.mark.parametrize(("text", "values"), READ)
def test_environment_files_are_read_as_python_dotenv_reads_them(tmp_path, text, values):
    path = tmp_path / ".env"
    path.write_bytes(text.encode("utf-8"))
    assert environment_file.read(str(path), {"HOME": "/home/site", "PATH": "/bin"}) == values


def test_the_table_is_what_python_dotenv_says(tmp_path, monkeypatch):
    main = pytest.importorskip("dotenv.main", reason="python-dotenv is not installed")
    for name in list(os.environ):
        monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", "/home/site")
    monkeypatch.setenv("PATH", "/bin")
    for text, values in READ:
        path = tmp_path / ".env"
        path.write_bytes(text.encode("utf-8"))
        result = main.DotEnv(dotenv_path=str(path), override=True, encoding="utf-8").dict()
        assert {name: value for name, value in result.items() if value is not None} == values


@pytest.mark.parametrize("line", ["A B=1", "A='open", 'A="x" open', "=open", "A='x'open", "A=open\0"])
def test_a_line_that_is_none_is_named_without_its_value(tmp_path, line):
    path = tmp_path / ".env"
    path.write_text("OK=1\n" + line + "\n", encoding="utf-8")
    with pytest.raises(SauvegardeError, match="line 2") as caught:
        environment_file.read(str(path), {})
    assert "open" not in str(caught.value)


def test_an_environment_file_that_cannot_be_read_is_named(tmp_path):
    path = tmp_path / ".env"
    path.write_bytes(b"A=\xe9\n")
    for unreadable in (path, tmp_path / "none"):
        with pytest.raises(SauvegardeError, match="environment file cannot be read"):
            environment_file.read(str(unreadable), {})


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
            if line.startswith("from .") and " import " in line and ".worker." in name:
                base, _, names = line[len("from ") :].partition(" import ")
                level = len(base) - len(base.lstrip("."))
                package = {1: "sauvegarde.django.worker", 2: "sauvegarde.django", 3: "sauvegarde"}[level]
                expected = [base.strip(".")] if base.strip(".") else [each.strip() for each in names.split(",")]
                assert all(f"{package}.{each}" in sources for each in expected), (name, line)
