#!/usr/bin/python
# GNU General Public License v3.0+ (see LICENSE)
"""Install the engine that came along with this very module."""

DOCUMENTATION = r"""
module: sauvegarde_engine
short_description: Install the backup engine on a host
description:
  - Copies the engine of this project to the host, where cron and people start it as the command C(sauvegarde).
  - Every version lies in a folder of its own, so that a job which runs meanwhile keeps its files. The launchers
    are replaced whole, then the versions before the last one are removed.
  - Refuses to replace a program of another origin at O(command).
author: Sauvegarde
options:
  path:
    description: Folder of the engine on the host.
    type: path
    default: /usr/local/lib/sauvegarde
  command:
    description:
      - The host's command. The same launcher stays at its former path, C(run) in O(path), for scripts that call it.
    type: path
    default: /usr/local/sbin/sauvegarde
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
  description: The command that cron and people start.
  returned: always
  type: str
  sample: /usr/local/sbin/sauvegarde
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
from ansible.module_utils.sauvegarde import VERSION
from ansible.module_utils.sauvegarde.errors import SauvegardeError
from ansible.module_utils.sauvegarde.system import installation

NOTE = "Managed by Ansible; local changes will be overwritten."


# Ansible sends a module with what it imports, and this one is to bring the whole engine. These are never called, since
# a bare host has not all that the engine needs.


def _engine():
    from ansible.module_utils.sauvegarde import (  # noqa: F401 - see above
        catalog,
        cli,
        config,
        errors,
    )
    from ansible.module_utils.sauvegarde.archive import (  # noqa: F401 - see above
        archive_reader,
        archive_writer,
        compression,
        folder_compression,
        ids,
        machine_identity,
        manifest,
        retention,
    )
    from ansible.module_utils.sauvegarde.backup import (  # noqa: F401 - see above
        detached_job,
        hooks,
        maintenance,
        outcome,
        pipeline,
        progress,
        schedule,
        snapshot_fingerprint,
        stop_signals,
        supervisor,
        table_locks,
        uncovered_databases,
        worker_report,
    )
    from ansible.module_utils.sauvegarde.offsite import (  # noqa: F401 - see above
        credentials,
        restic,
    )
    from ansible.module_utils.sauvegarde.postgres import (  # noqa: F401 - see above
        attachments,
        character_sets,
        client_tools,
        database_names,
        database_properties,
        disk_guard,
        fingerprint,
        foreign_keys,
        index_search_path,
        omissions,
        passwords,
        postgres_server,
        server_errors,
        server_versions,
        sql_names,
    )
    from ansible.module_utils.sauvegarde.report import (  # noqa: F401 - see above
        job_state,
        journal,
        metrics,
        ping,
        render,
    )
    from ansible.module_utils.sauvegarde.system import (  # noqa: F401 - see above
        disk_space,
        file_sync,
        git,
        installation,
        job_folders,
        lock,
        private_directory,
        process,
        run_as,
        user_groups,
    )


def _django():
    from ansible.module_utils.sauvegarde.django import (  # noqa: F401 - see above
        data_dump,
        data_load,
        dependent_fields,
        environment_file,
        fixture_fingerprint,
        fixture_sets,
        fixture_stream,
        known_people,
        leak_scan,
        masking,
        masking_preview,
        masking_report,
        personal_data,
        policy_draft,
        private_fields,
        set_privacy,
        set_texts,
        site,
        site_arguments,
    )
    from ansible.module_utils.sauvegarde.django.worker import (  # noqa: F401 - see above
        bulk_load,
        bulk_write,
        database_guard,
        database_triggers,
        derived_models,
        direct_dump,
        exact_values,
        field_values,
        lossy_values,
        mask_examples,
        masked_originals,
        migration_schema,
        model_dump,
        model_rows,
        natural_keys,
        odd_dates,
        people_names,
        signal_listeners,
        site_models,
        site_start,
        tree_fields,
        unreadable_values,
        value_samples,
        worker_main,
    )


def _kinds():
    from ansible.module_utils.sauvegarde.backup.kinds import (  # noqa: F401 - see above
        dumpdata,
        fixtures,
        globals,
        pg_dump,
        sqlite,
    )


def _migrate():
    from ansible.module_utils.sauvegarde.migrate import (  # noqa: F401 - see above
        difference_examples,
        file_target,
        migration_arguments,
        migration_plan,
        migration_run,
        migration_source,
        server_target,
    )


def _restore():
    from ansible.module_utils.sauvegarde.restore import (  # noqa: F401 - see above
        archive_choice,
        check_constraints,
        deferred_rows,
        detached_restore,
        dump_load,
        dump_roles,
        extension_rows,
        fetch,
        function_search_paths,
        load_role,
        locale_names,
        materialized_views,
        partial_dump,
        pg_cron,
        pg_restore_run,
        predicted_losses,
        restore_arguments,
        restore_plan,
        restore_run,
        restore_state,
        surviving_fingerprint,
        verification,
    )
    from ansible.module_utils.sauvegarde.restore.dump import (  # noqa: F401 - see above
        cluster_dump,
        contents,
        dump_file,
        entries,
        entry_dependencies,
        file_type,
        lexer,
        load_errors,
        loss_ledger,
        loss_names,
        oids,
        psql_commands,
        role_demands,
        split_files,
        sql_script,
        toc_list,
        wrappers,
    )


def _targets():
    from ansible.module_utils.sauvegarde.targets import (  # noqa: F401 - see above
        side_database,
        sqlite_target,
        swap,
    )


def main():
    module = AnsibleModule(
        argument_spec={
            "path": {"type": "path", "default": installation.ROOT},
            "command": {"type": "path", "default": installation.COMMAND},
        },
        supports_check_mode=True,
    )
    root, command = module.params["path"], module.params["command"]
    files = installation.sources()
    try:
        changed = not installation.is_current(root, command, files, NOTE)
        different = installation.differences(command, files) if changed else []
        if changed and not module.check_mode:
            installation.install(root, command, files, NOTE)
    except SauvegardeError as error:
        module.fail_json(msg=str(error), **error.as_dict())
    except OSError as error:
        module.fail_json(msg=f"The engine could not be installed in {root}: {error}")
    module.exit_json(
        changed=changed,
        launcher=command,
        version=VERSION,
        digest=installation.digest(files),
        diff={"before": "", "after": "".join(name + "\n" for name in different)},
    )


if __name__ == "__main__":
    main()
