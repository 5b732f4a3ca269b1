"""Names of locales in other spellings: what a target, and locale-gen, call them."""

import runpy

import pytest
from sauvegarde.restore import locale_names

from sauvegarde_cli.system import ROOT

HERE = ["C", "C.utf8", "POSIX", "de_DE@euro", "en_US.iso88591", "en_US.utf8", "fr_FR", "fr_FR.iso88591", "fr_FR.utf8"]
HERE += ["pt_BR.utf8", "zh_CN.gb18030", "zh_CN.utf8", "de_DE.iso885915@euro", "ru_RU.cp1251"]
SUPPORTED = ["# a comment", "de_DE@euro ISO-8859-15", "en_US.UTF-8 UTF-8", "fr_FR.UTF-8 UTF-8", "fr_FR ISO-8859-1"]


@pytest.mark.parametrize(
    ("name", "encoding", "result"),
    [
        ("fr_FR.ISO-8859-1", "LATIN1", "fr_FR.iso88591"),
        ("fr_FR.ISO8859-1", "LATIN1", "fr_FR.iso88591"),
        ("fr_FR.8859-1", "LATIN1", "fr_FR.iso88591"),
        ("en_US.UTF8", "UTF8", "en_US.utf8"),
        ("en-US", "UTF8", "en_US.utf8"),
        ("de_DE.ISO8859-15@euro", "LATIN9", "de_DE.iso885915@euro"),
        ("French_France.1252", "UTF8", "fr_FR.utf8"),
        ("French_France.65001", "UTF8", "fr_FR.utf8"),
        ("English_United States.1252", "UTF8", "en_US.utf8"),
        ("Portuguese_Brazil.1252", "UTF8", "pt_BR.utf8"),
        ("Chinese (Simplified)_People's Republic of China.936", "UTF8", "zh_CN.utf8"),
        ("Russian_Russia.1251", "WIN1251", "ru_RU.cp1251"),
        # Another codeset than the database's would be another order of other bytes.
        ("French_France.1252", "WIN1252", ""),
        ("fr_FR.ISO-8859-15", "LATIN9", ""),
        ("Klingon_Kronos.1252", "UTF8", ""),
        ("xx_XX.none", "UTF8", ""),
        ("..@", "UTF8", ""),
    ],
)
def test_the_target_s_name_of_a_locale(name, encoding, result):
    assert locale_names.find(name, encoding, HERE) == result


def test_those_of_the_same_language():
    assert locale_names.similar("French_Canada.1252", HERE) == ["fr_FR", "fr_FR.iso88591", "fr_FR.utf8"]
    assert locale_names.similar("xx_XX.none", HERE) == []


@pytest.mark.parametrize(
    ("name", "result"),
    [
        ("fr_FR.ISO-8859-1", "fr_FR"),
        ("fr_FR.iso88591", "fr_FR"),
        ("fr_FR", "fr_FR"),
        ("fr_FR.utf8", "fr_FR.UTF-8"),
        ("fr_FR.UTF-8", "fr_FR.UTF-8"),
        ("de_DE.ISO-8859-15@euro", "de_DE@euro"),
        ("de_DE@euro", "de_DE@euro"),
        ("fr_FR.ISO-8859-15", ""),
        ("fr_XX.UTF-8", ""),
        ("#", ""),
    ],
)
def test_what_locale_gen_calls_it(name, result):
    names = runpy.run_path(str(ROOT / "plugins/filter/sauvegarde_locale.py"))
    assert names["supported_locale"](name, SUPPORTED) == result
    assert names["supported_locale"](name, []) == ""


def test_one_spelling():
    name = runpy.run_path(str(ROOT / "plugins/filter/sauvegarde_locale.py"))["locale"]
    assert name("fr_FR.ISO-8859-1") == name("fr_FR.iso88591") == "fr_FR.iso88591"
    assert name("de_DE.ISO-8859-15@euro") == "de_DE.iso885915@euro" and name("C") == "C"
    assert name("fr_FR.UTF-8") != name("fr_FR.ISO-8859-1")
