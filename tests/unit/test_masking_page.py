"""The page about masking tells the truth: its examples are made again, and it has all masks and actions."""

import json
import re
from pathlib import Path

from sauvegarde.django.field_masks import MASKS, Field, Mask
from sauvegarde.django.known_people import People

TOP = Path(__file__).parents[2]
PAGE = (TOP / "docs" / "masking.md").read_text(encoding="utf-8")
KEY = b"the key of the documentation"


def examples():
    return re.findall(r"^\| `(\w+)` \| `(.+?)` \| `(.+?)` \|$", PAGE, flags=re.MULTILINE)


def test_every_mask_has_an_example_and_each_example_is_true():
    people = People()
    people.add("Zoé Réelle")
    collected = {}
    for how, before, after in examples():
        collected[how] = Mask(how, KEY, Field(), "d", None, people)(json.loads(before))
        assert collected[how] == json.loads(after), how
    assert sorted(collected) == sorted(MASKS)
    assert collected["username"] in PAGE.split("## Log in")[1]


def test_the_readme_leads_to_it():
    assert "docs/masking.md" in (TOP / "README.md").read_text(encoding="utf-8")
