#!/usr/bin/python
# GNU General Public License v3.0+ (see LICENSE)
"""Install the engine that came along with this very module."""

DOCUMENTATION = r"""
module: sauvegarde_engine
short_description: Install the backup engine on a host
description:
  - Copies the engine of this project to the host, where cron runs it.
  - Every version lies in a folder of its own, so that a job which runs meanwhile keeps its files. The launcher C(run)
    is replaced whole, then the versions before the last one are removed.
author: Sauvegarde
options:
  path:
    description: Folder of the engine on the host.
    type: path
    default: /usr/local/lib/sauvegarde
attributes:
  check_mode:
    support: full
  diff_mode:
    support: full
"""

EXAMPLES = r"""
- name: Have this project's engine on the host
  sauvegarde_engine:
"""

RETURN = r"""
launcher:
  description: What cron and people start.
  returned: always
  type: str
  sample: /usr/local/lib/sauvegarde/run
version:
  description: Version of the engine.
  returned: always
  type: str
  sample: 0.1.0
digest:
  description: Name of exactly these sources.
  returned: always
  type: str
  sample: 3f9c3a2b1c0d4e5f
"""

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.sauvegarde import VERSION, installation

NOTE = "Kept by Ansible; changes are lost."


# Ansible sends a module with what it imports, and this one is to bring the whole engine. These are never called, since
# a bare host has not all that the engine needs.


def _engine():
    from ansible.module_utils.sauvegarde import (  # noqa: F401 - see above
        acting,
        archive,
        catalog,
        character_sets,
        credentials,
        databases,
        errors,
        fingerprint,
        folders,
        following,
        foreign_keys,
        git,
        groups,
        holding,
        hooks,
        identity,
        installation,
        jobs,
        journal,
        lock,
        manifest,
        metrics,
        offsite,
        omissions,
        passwords,
        ping,
        postgres,
        predefined,
        process,
        remote,
        retention,
        runner,
        schedule,
        site_path,
        state,
        summing,
        uncovered,
    )


def _django():
    from ansible.module_utils.sauvegarde.django import (  # noqa: F401 - see above
        arguments,
        dependence,
        drafting,
        dump,
        environment_file,
        escapes,
        fixture,
        leaks,
        load,
        masking,
        masking_report,
        people,
        personal,
        preview,
        privacy,
        private_fields,
        proof,
        serialized,
        set_masking,
        set_texts,
        sets,
        site,
        worker,
        worker_dates,
        worker_derived,
        worker_direct,
        worker_dump,
        worker_exact,
        worker_guard,
        worker_leaks,
        worker_listeners,
        worker_load,
        worker_losses,
        worker_migrate,
        worker_models,
        worker_naturals,
        worker_oddities,
        worker_people,
        worker_plan,
        worker_preview,
        worker_samples,
        worker_start,
        worker_trees,
        worker_triggers,
        worker_values,
        worker_write,
    )


def _kinds():
    from ansible.module_utils.sauvegarde.kinds import (  # noqa: F401 - see above
        dumpdata,
        fixtures,
        globals,
        pg_dump,
        sqlite,
    )


def _migrate():
    from ansible.module_utils.sauvegarde.migrate import (  # noqa: F401 - see above
        arguments,
        examples,
        file,
        plan,
        run,
        server,
        source,
    )


def _restore():
    from ansible.module_utils.sauvegarde.restore import (  # noqa: F401 - see above
        arguments,
        attachments,
        choose,
        cluster,
        contents,
        cron_jobs,
        detached,
        extension_rows,
        fetch,
        files,
        foresight,
        function_paths,
        identify,
        lexer,
        load,
        load_as,
        locales,
        losses,
        matviews,
        names,
        oids,
        partial,
        plan,
        proof,
        psql,
        roles,
        room,
        row_checks,
        run,
        script,
        side,
        source,
        split_files,
        state,
        swap,
        waiting,
        words,
        wrapping,
    )


def main():
    module = AnsibleModule(
        argument_spec={"path": {"type": "path", "default": "/usr/local/lib/sauvegarde"}}, supports_check_mode=True
    )
    root = module.params["path"]
    files = installation.sources()
    try:
        changed = not installation.current(root, files, NOTE)
        before = sorted(installation.differences(root, files)) if changed else []
        if changed and not module.check_mode:
            installation.install(root, files, NOTE)
    except OSError as error:
        module.fail_json(msg=f"The engine could not be installed in {root}: {error}")
    digest = installation.digest(files)
    module.exit_json(
        changed=changed,
        launcher=f"{root}/{installation.LAUNCHER}",
        version=VERSION,
        digest=digest,
        diff={"before": "", "after": "".join(name + "\n" for name in before)},
    )


if __name__ == "__main__":
    main()
