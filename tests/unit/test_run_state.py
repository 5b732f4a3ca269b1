"""The state of a run is validated when it is read."""

import json

import pytest
from sauvegarde.errors import SauvegardeError
from sauvegarde.restore import restore_state
from sauvegarde.restore.run_state import RunState

LEAST = {"id": "20261124T030000Z", "database": "shop", "status": "ready"}


@pytest.mark.parametrize(
    "wrong",
    [{"id": None}, {"database": 5}, {"status": []}, {"side": ["x"]}, {"swap": "x"}, {"losses": "x"}, {"archive": "x"}],
)
def test_a_wrong_key_is_named_with_the_file(wrong):
    with pytest.raises(SauvegardeError, match="damaged: /runs") as error:
        RunState.from_values({**LEAST, **wrong}, "/runs/state.json")
    assert next(iter(wrong)) in error.value.why


def test_the_state_of_an_earlier_version_is_read():
    """Without what later versions added; empty values count as missing."""
    run = RunState.from_values({**LEAST, "swapped_at": None, "globals": None}, "")
    assert (run.swapped_at, run.globals, run.losses, run.scheduled, run.is_migration) == ("", "", (), None, False)
    assert run.with_values(status="swapped").status == "swapped" and run.status == "ready"


def test_a_file_that_is_no_json_is_no_run(tmp_path):
    (tmp_path / LEAST["id"]).mkdir()
    path = tmp_path / LEAST["id"] / restore_state.NAME
    path.write_text("cut sho")
    assert restore_state.runs(tmp_path) == [] and restore_state.swapped(tmp_path, "shop") is None
    path.write_text(json.dumps(LEAST | {"swapped_at": LEAST["id"]}))
    (run,) = restore_state.runs(tmp_path)
    assert run.database == "shop" and restore_state.swapped(tmp_path, "shop") == run
