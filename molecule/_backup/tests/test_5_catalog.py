"""The list of all hosts and repositories."""

import json

from tests_support.hosts import play


def test_the_list_as_a_table_and_as_json(everyone, tmp_path):
    file = tmp_path / "list.json"
    done = play(playbook="playbooks/list.yml", variables={"list_file": str(file)})
    assert done.code == 0, done.output
    entries = json.loads(file.read_text())
    for name, one in everyone.items():
        here = {
            line["id"]
            for line in entries
            if line["host"] == name and line["where"] == "local" and line["job"] == "elpaso"
        }
        assert here == set(one.labels())
        assert any(line["host"] == name and line["where"] == "vault" for line in entries), name
        assert one.labels()[-1] in done.output
    assert all(line["verified"] and line["stored_bytes"] > 0 and line["source"] for line in entries), entries
    assert "AGE" in done.output and "99 %" in done.output
