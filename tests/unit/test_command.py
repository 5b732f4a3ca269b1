"""The host's command: its help, and what each exit code means."""

import os

import pytest
from sauvegarde import cli, errors


@pytest.fixture(autouse=True)
def umask():
    """Restore the umask, which the command sets for its process."""
    before = os.umask(0o022)
    yield
    os.umask(before)


def test_the_help_names_every_command_and_exit_code(capsys):
    with pytest.raises(SystemExit) as ended:
        cli.main(["--help"])
    text = capsys.readouterr().out
    assert ended.value.code == 0
    for command in ("run", "verify", "prune", "forget", "list"):
        assert f"\n    {command} " in text
    for code, meaning in errors.exit_codes().items():
        assert f"  {code:>3}  {meaning}\n" in text


def test_an_error_is_printed_without_a_traceback(tmp_path, capsys):
    (tmp_path / "jobs").mkdir()
    assert cli.main(["--configuration", str(tmp_path), "run", "nope"]) == errors.SauvegardeError.exit_code
    text = capsys.readouterr().err
    assert text.startswith("Sauvegarde: There is no job named nope") and "Fix: " in text
