"""What a migration keeps though fixtures lose it: microseconds, JSON null, the order of related objects."""

import pytest
from sample_site import ENVIRONMENTS, interpreter, shell, text_of
from sauvegarde.archive import ids
from sauvegarde.migrate import migration_plan, migration_run, migration_source
from sauvegarde.migrate.migration_request import MigrationRequest
from sauvegarde.restore import restore_state
from small_site import Small

MODELS = """
from django.conf import settings
from django.db import models

class Measure(models.Model):
    sensor = models.CharField(max_length=9)
    at = models.DateTimeField()
    clock = models.TimeField()
    took = models.DurationField()
    class Meta:
        unique_together = [("sensor", "at")]

class Reading(models.Model):
    at = models.DateTimeField(null=True)
    def __init__(self, *args, **kwargs):  # read as objects
        super().__init__(*args, **kwargs)

class Journal(models.Model):
    data = models.JSONField(default=dict)

class Question(models.Model):
    text = models.CharField(max_length=20)

class Answer(models.Model):
    question = models.ForeignKey(Question, models.CASCADE)
    by = models.ForeignKey(settings.AUTH_USER_MODEL, models.CASCADE)
    class Meta:
        order_with_respect_to = "question"
"""
FILL = """
import datetime
from a.models import *
from django.contrib.auth.models import User
from django.db.models import Value
day = datetime.datetime(2024, 1, 2, 3, 4, 5, tzinfo=datetime.timezone.utc)
for micro in (0, 100, 900, 123000, 123456, 120000, 999999):
    at = day.replace(microsecond=micro)
    took = datetime.timedelta(microseconds=micro)
    Measure.objects.create(sensor="s", at=at, clock=at.time(), took=took)
    Reading.objects.create(at=at)

Reading.objects.create()
Journal.objects.create(data=Value(None, models.JSONField()))
Journal.objects.create(data={"a": None})
question, user = Question.objects.create(text="q"), User.objects.create(username="u")
answers = [Answer.objects.create(question=question, by=user) for _ in range(3)]
question.set_answer_order([answers[2].pk, answers[0].pk, answers[1].pk])
print(1)
"""
# Asked of the side database itself.
LOOK = (
    "SELECT at, clock FROM a_measure ORDER BY id",
    "SELECT at FROM a_reading ORDER BY id",
    "SELECT CAST(data AS text) FROM a_journal ORDER BY id",
    "SELECT id, _order FROM a_answer ORDER BY id",
)
ABOUT = {"path": "", "mark": None, "keeper": "", "connection": {}, "server_directory": "", "environment": "production"}


@pytest.fixture(scope="module")
def small(cluster, tmp_path_factory):
    return Small(interpreter(ENVIRONMENTS[0]), cluster, tmp_path_factory.mktemp("small"), MODELS)


def migrate(cluster, one, two, tmp_path):
    result = migration_source.make(one, tmp_path / "out", migration_source.options(None, "", [], False), ABOUT)
    spec = {"site": two.as_dict(), "directory": str(tmp_path / "in"), "path": result["path"], "keeper": "root"}
    spec = MigrationRequest.from_values(
        dict(spec, connection=cluster.values, server_directory=str(tmp_path / "server"))
    )
    return migration_run.fill(spec, ids.new_id(restore_state.folder(spec.directory)), migration_plan.survey(two))


@pytest.mark.parametrize(("kind", "to"), [("pg", "pg"), ("sqlite", "pg"), ("sqlite", "sqlite")])
def test_nothing_is_lost_to_json(small, cluster, tmp_path, kind, to):
    one, two = small.new(kind), small.new(to)
    shell(one, FILL)
    done = migrate(cluster, one, two, tmp_path)
    assert done["proof"]["mended"] == {}
    side = two.replace(name=done["side"])
    assert text_of(side, exact=True, all=True) == text_of(one, exact=True, all=True)
    # What stock writes has no microseconds; the option alone adds them.
    plain, exact = (text_of(one, labels=["a.Measure"], exact=each).decode() for each in (False, True))
    assert "03:04:05.123Z" in plain and ".000900Z" not in plain
    for moment in ("05Z", "05.000100Z", "05.000900Z", "05.123Z", "05.123456Z", "05.120Z", "05.999999Z"):
        assert f'"2024-01-02T03:04:{moment}"' in exact
    if (kind, to) == ("pg", "pg"):
        collected = [[cluster.execute(query, name) for query in LOOK] for name in (small.name(one), done["side"])]
        assert collected[0] == collected[1]
        assert collected[1][2] == [("null",), ('{"a": null}',)]
        assert [row[1] for row in collected[1][3]] == [1, 2, 0]
