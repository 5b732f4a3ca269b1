"""What leaves a source: an archive of the kind `dumpdata`, masked where the target is not production.

It is made on the source's own host, from the live site or from an archive that is opened there, and nowhere else.
"""

import os
import shutil

from .. import archive, kinds
from ..django import dump, masking, site
from ..errors import SauvegardeError
from ..restore import state

JOB = "outgoing"
PRODUCTION = "production"
# Hosts that may see what is masked: production's own, and the one that keeps its repository.
SEEING = (PRODUCTION, "repository")


def is_masked(choice, target_environment):
    """Whether the data are masked. `choice`: auto, always or never; auto masks unless the target is production."""
    return choice == "always" or (choice == "auto" and target_environment != PRODUCTION)


def options(policy, key, labels, masked):
    """The options of the dump (`dump.DEFAULTS`)."""
    values = {"labels": list(labels), "format": "jsonl"}
    if masked:
        values.update(policy=policy, key=key)
    return values


def look(where, policy, key, labels, masked):
    """The source in plain values: the site's survey (`worker_migrate.survey`), `masked`, and `obstacles`.

    Changes nothing.
    """
    found = site.run(where, "survey", {"labels": list(labels), "exclude": list(dump.EXCLUDE)})
    obstacles = []
    if found["applied"] is None:
        obstacles.append(
            SauvegardeError(
                "The source's database cannot be asked.",
                found["refused"] or "{} does not exist.".format(found["name"]),
                "Correct the site's environment file.",
            )
        )
    missing = sorted(set(found["migrations"]) - set(found["applied"] or found["migrations"]))
    if missing:
        obstacles.append(
            SauvegardeError(
                "The source's code and data disagree: migrations are not applied.",
                ", ".join(missing),
                "Run the site's migrate on the source.",
            )
        )
    if masked:
        try:
            check(policy, key, found)
        except SauvegardeError as error:
            obstacles.append(error)
    return dict(found, host=os.uname().nodename, masked=masked, obstacles=[each.as_dict() for each in obstacles])


def check(policy, key, found):
    """Raise where the policy does not fit the models that would leave."""
    if not policy:
        raise SauvegardeError(
            "There is no masking policy, and personal data do not leave production.",
            "What leaves for a host that is not production is masked.",
            "Draft a policy (playbooks/policy.yml), correct it, and keep it in the inventory as migrate_policy.",
        )
    try:
        secret = bytes.fromhex(key)
    except ValueError as error:
        raise SauvegardeError(
            "The key of the masking is not hexadecimal.", fix="Give migrate_key 32 hexadecimal digits or more."
        ) from error
    masking.Masking(policy, found["models"], secret, found["selected"])


def make(where, root, values, progress=kinds.silent):
    """Dump the live site into ROOT/outgoing/ID, the only archive there. Returns {"path", "manifest"}.

    `values`: as `options` gives them.
    """
    root = state.folder(root)
    folder = state.folder(root / JOB)
    for old in archive.identifiers(folder):
        shutil.rmtree(str(folder / old))
    job = {"name": JOB, "kind": "dumpdata", "site": where._asdict(), "dumpdata": values}
    manifest = kinds.back_up(job, root, progress)
    return {"path": str(folder / manifest["id"]), "manifest": manifest}
