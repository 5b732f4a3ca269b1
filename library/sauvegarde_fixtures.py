#!/usr/bin/python
# GNU General Public License v3.0+ (see LICENSE)
"""Export a Django site's fixture sets, or import them."""

DOCUMENTATION = r"""
module: sauvegarde_fixtures
short_description: Export a Django site's fixture sets, or import them
description:
  - A set is a group of models in one file, one object a line, sorted by key, so that unchanged data is an unchanged
    file. Stock C(loaddata) and Django Smuggler read the files.
author: Sauvegarde
extends_documentation_fragment:
  - sauvegarde_site
options:
  state:
    description: C(exported) writes the files from the database, C(imported) loads them into it.
    type: str
    choices: [exported, imported]
    default: exported
  folder:
    description: Where the files are. It belongs to the site's user, who reads and writes there.
    type: path
    required: true
  sets:
    description: The sets, all read from one snapshot and held in memory; the seven of El Géo Paso without it.
    type: list
    elements: dict
    suboptions:
      name:
        description: Name of the set.
        type: str
        required: true
      file:
        description:
          - Its file, a path inside O(folder), C(NAME.json) without it; C(.jsonl) for lines without a list around them.
        type: str
      indent:
        description: Spaces to indent with, as stock C(dumpdata --indent); one object a line without it.
        type: int
      models:
        description: Applications and models; C(*) alone is the whole site.
        type: list
        elements: str
        required: true
      people:
        description: In place of O(people), for this set.
        type: str
        choices: [private, keep]
      masks:
        description:
          - Actions by model and field, C({pages.article: {author: keep, text: {mask: scrub}}}). V(keep) writes the
            field as it is, V(public) too, and originals of masked fields are not searched in it. V(empty) leaves it
            empty, V(number) writes a reference as the number that stock C(dumpdata) writes. C({mask: HOW}) masks it as
            a masking policy does (C(docs/masking.md) has the masks) and needs O(key).
        type: dict
      kept_words:
        description: Words that are parts of names and stay in texts with C({mask: scrub}), as in a masking policy.
        type: list
        elements: str
      not_searched:
        description: Masked fields (C(application.model.field)) whose originals may be anywhere, as in a masking policy.
        type: list
        elements: str
  people:
    description:
      - What the files hold of people. With V(private) references to people are empty, or numbers where they must not be
        empty, and e-mail addresses, telephones, names of authors and contacts, and tokens are empty; a set of users or
        profiles is refused. With V(keep) all of it is written, login names included.
      - An import leaves a field that the set empties or masks as it is in rows that are there.
    type: str
    choices: [private, keep]
    default: private
  key:
    description: The masking's secret, hexadecimal, 16 bytes or more. An export of sets with C({mask: HOW}) needs it.
    type: str
    default: ""
  mode:
    description:
      - How an import treats rows that the files do not have; C(replace) removes them. Those that the model's default
        manager hides, which no export holds, stop it, unless the O(policy) says C(hidden) is C(drop).
    type: str
    choices: [merge, replace]
    default: merge
  policy:
    description: As in M(sauvegarde_loaddata), for an import.
    type: dict
    default: {}
  commit:
    description: Commit the exported files in the git repository that the folder is in, where they changed.
    type: bool
    default: false
  push:
    description: Push, too, what was committed.
    type: bool
    default: false
  message:
    description: The commit's message.
    type: str
    default: Update the fixtures
  author_name:
    description: The commit's author; git's own configuration without it.
    type: str
    default: ""
  author_email:
    description: The author's address.
    type: str
    default: ""
attributes:
  check_mode:
    support: full
  diff_mode:
    support: full
"""

EXAMPLES = r"""
- name: Export the reference data into the site's repository
  sauvegarde_fixtures:
    site: "{{ site }}"
    folder: /srv/site/src/fixtures
    commit: true
    push: true
  become: true
"""

RETURN = r"""
sets:
  description: For an export, each set with C(name), C(path), C(changed) and C(objects).
  returned: exported
  type: list
  elements: dict
private:
  description: Sentences that name each field which is empty in the files, a number or masked.
  returned: exported
  type: list
  elements: str
committed:
  description: The new commit, or null where nothing had changed.
  returned: exported with commit
  type: str
pushed:
  description: Whether something was pushed.
  returned: exported with commit
  type: bool
loaded:
  description: For an import, as M(sauvegarde_loaddata) returns; null where the database had it all.
  returned: imported
  type: dict
"""

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.sauvegarde import git
from ansible.module_utils.sauvegarde.django import arguments, load, privacy, sets
from ansible.module_utils.sauvegarde.errors import SauvegardeError


def export(module, site, wanted):
    parameters = module.params
    if parameters["commit"]:
        files = [each["file"] for each in sets.checked(wanted)]
        git.require_place(parameters["folder"], files, user=site.user)
    done = sets.export(
        site,
        wanted,
        parameters["folder"],
        not module.check_mode,
        owner=site.user,
        texts=module._diff,
        people=parameters["people"],
        key=parameters["key"],
    )
    changed = [each for each in done if each["changed"]]
    result = {
        "changed": bool(changed),
        "sets": [{key: each[key] for key in ("name", "path", "changed", "objects")} for each in done],
        "private": sets.private_sentences(done),
    }
    for sentence in sets.doubts(done):
        module.warn(sentence)
    if module._diff:
        result["diff"] = [
            {"before": each["before"], "after": each["text"], "before_header": each["path"]} for each in changed
        ]
    if parameters["commit"] and not module.check_mode:
        made = git.commit(
            parameters["folder"],
            [each["path"] for each in done],
            parameters["message"],
            push=parameters["push"],
            user=site.user,
            name=parameters["author_name"],
            email=parameters["author_email"],
        )
        result.update(made, changed=bool(changed or made["committed"] or made["pushed"]))
    return result


def bring_in(module, site, wanted):
    options = arguments.given(module.params, ("mode", "policy"))
    people = module.params["people"]
    result = sets.bring_in(site, wanted, module.params["folder"], dict(options, check_only=module.check_mode), people)
    sentences = "".join(each["sentence"] + "\n" for each in result["differences"])
    return {"changed": result["changed"], "loaded": result["loaded"], "diff": {"prepared": sentences}}


def main():
    one_set = {
        "name": {"type": "str", "required": True},
        "file": {"type": "str"},
        "indent": {"type": "int"},
        "models": {"type": "list", "elements": "str", "required": True},
        "people": {"type": "str", "choices": list(privacy.CHOICES)},
        "masks": {"type": "dict"},
        "kept_words": {"type": "list", "elements": "str"},
        "not_searched": {"type": "list", "elements": "str"},
    }
    module = AnsibleModule(
        argument_spec=dict(
            arguments.SITE,
            state={"type": "str", "choices": ["exported", "imported"], "default": "exported"},
            folder={"type": "path", "required": True},
            sets={"type": "list", "elements": "dict", "options": one_set},
            people={"type": "str", "choices": list(privacy.CHOICES), "default": privacy.PRIVATE},
            key={"type": "str", "no_log": True, "default": ""},
            mode={"type": "str", "choices": list(load.MODES), "default": "merge"},
            policy={"type": "dict", "default": {}},
            commit={"type": "bool", "default": False},
            push={"type": "bool", "default": False},
            message={"type": "str", "default": "Update the fixtures"},
            author_name={"type": "str", "default": ""},
            author_email={"type": "str", "default": ""},
        ),
        supports_check_mode=True,
    )
    try:
        run = export if module.params["state"] == "exported" else bring_in
        result = run(module, arguments.described(module.params), module.params["sets"] or sets.SETS)
    except SauvegardeError as error:
        module.fail_json(msg=str(error), **error.as_dict())
    module.exit_json(**result)


if __name__ == "__main__":
    main()
