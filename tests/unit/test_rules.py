"""The page of rules names tests that exist, for each rule."""

import re
from pathlib import Path

TOP = Path(__file__).parents[2]
PAGE = (TOP / "docs" / "rules.md").read_text(encoding="utf-8")


def test_each_rule_names_tests_that_exist():
    rules = re.split(r"^## (?=\d)", PAGE, flags=re.MULTILINE)[1:]
    assert [rule.split(".")[0] for rule in rules] == list("123456")
    for rule in rules:
        named = re.findall(r"`((?:tests|molecule)/[^`]+\.py)`", rule)
        assert named, rule
        assert [name for name in named if not (TOP / name).is_file()] == []


def test_the_readme_leads_to_it():
    assert "docs/rules.md" in (TOP / "README.md").read_text(encoding="utf-8")
