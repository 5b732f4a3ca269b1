"""Migrations of all rows, hidden ones too, and of the models that hold data of their own."""

import pytest
from sample_site import ENVIRONMENTS, interpreter, shell, text_of
from sauvegarde.archive import ids
from sauvegarde.errors import SauvegardeError
from sauvegarde.migrate import (
    migration_plan,
    migration_run,
    migration_source,
)
from sauvegarde.migrate.migration_request import MigrationRequest
from sauvegarde.restore import restore_state
from sauvegarde.targets.sqlite_target import SqliteTarget
from small_site import Small

MODELS = """
from django.db import models

class Alive(models.Manager):
    def get_queryset(self):
        return super().get_queryset().filter(removed=False)

class Customer(models.Model):
    name = models.CharField(max_length=50)
    removed = models.BooleanField(default=False)
    objects = Alive()
    every = models.Manager()
    class Meta:
        base_manager_name = "objects"

class Tag(models.Model):
    name = models.CharField(max_length=20)
    removed = models.BooleanField(default=False)
    objects = Alive()
    every = models.Manager()

class Order(models.Model):
    customer = models.ForeignKey(Customer, models.PROTECT)
    tags = models.ManyToManyField(Tag)

class Log(models.Model):
    order = models.ForeignKey(Order, models.CASCADE, null=True)

class CustomerTotal(models.Model):
    name = models.CharField(max_length=50, primary_key=True)
    class Meta:
        managed = False

class Form(models.Model):
    class Meta:
        managed = False
"""
# Made in both databases: what a migration of the site's would do.
MORE = """
from django.db import migrations
class Migration(migrations.Migration):
    dependencies = [("a", "0001_initial")]
    operations = [
        migrations.RunSQL("CREATE VIEW a_customertotal AS SELECT name, count(*) AS total FROM a_customer GROUP BY name")
    ]
"""
FILL = """
from a.models import *
for n in range(4):
    Customer(name="c%d" % n, removed=n > 1).save(force_insert=True)
    Tag(name="t%d" % n, removed=n > 2).save(force_insert=True)

for customer in Customer.every.order_by("pk"):
    order = Order(customer_id=customer.pk)
    order.save()
    for tag in Tag.every.all():
        Order.tags.through.objects.create(order=order, tag_id=tag.pk)

Log.objects.create(order=order)
print(1)
"""
ABOUT = {"path": "", "mark": None, "keeper": "", "connection": {}, "server_directory": "", "environment": "production"}


@pytest.fixture(scope="module")
def small(cluster, tmp_path_factory):
    result = Small(interpreter(ENVIRONMENTS[0]), cluster, tmp_path_factory.mktemp("small"), MODELS)
    template = result.new("sqlite")
    migration = result.folder / "a" / "migrations" / "0002_more.py"
    migration.write_text(MORE, encoding="utf-8")
    result._templates.clear()
    result._templates["none"] = template  # makemigrations has run
    return result


@pytest.fixture(scope="module")
def one(small):
    where = small.new("sqlite")
    shell(where, FILL)
    return where


def migrate(cluster, one, two, tmp_path, labels=(), exclude=(), hidden="travel"):
    """(plan's lines, the run's final state, the site on its side database)."""
    outcome = migration_source.make(
        one, tmp_path / "out", migration_source.options(None, "", labels, False, exclude, hidden), ABOUT
    )
    spec = {"site": two.as_dict(), "directory": str(tmp_path / "in"), "path": outcome["path"], "keeper": "root"}
    spec.update(connection=cluster.values, server_directory=str(tmp_path / "server"), labels=list(labels))
    spec = MigrationRequest.from_values(dict(spec, exclude=list(exclude), hidden=hidden))
    lines = migration_plan.lines(
        migration_run.make_plan(spec, migration_source.look(one, None, "", list(labels), False, ABOUT, exclude))
    )
    result = migration_plan.survey(two, labels, exclude)
    done = migration_run.fill(spec, ids.new_id(restore_state.folder(spec.directory)), result)
    return lines, done, two.replace(name=done["side"])


@pytest.mark.parametrize("kind", ["pg", "sqlite"])
def test_rows_travel_that_default_managers_hide_and_views_stay(small, one, cluster, tmp_path, kind):
    report, done, side = migrate(cluster, one, small.new(kind), tmp_path)
    assert {label: each["rows"] for label, each in done["proof"]["models"].items() if label.startswith("a.")} == {
        "a.customer": 4,
        "a.tag": 4,
        "a.order": 4,
        "a.log": 1,
    }
    values = {"labels": ["a.Customer", "a.Tag", "a.Order", "a.Log"], "all": True}
    assert text_of(one, **values) == text_of(side, **values)
    notes = "\n".join(report)
    assert "Rows that a default manager hides come along: a.customer 2, a.tag 1." in notes
    assert "a.customertotal is left out: it is a view." in notes
    assert "a.form is left out: it is unmanaged, and without a table of its own." in notes
    assert not any(line.startswith("BLOCKED:") for line in report)


def test_hidden_rows_stay_if_asked_and_what_refers_to_them_is_named(small, one, cluster, tmp_path, monkeypatch):
    def busy(_target, _name):
        raise SauvegardeError("Somebody holds it.")

    monkeypatch.setattr(SqliteTarget, "drop", busy)
    with pytest.raises(SauvegardeError, match="cannot be loaded") as caught:
        migrate(cluster, one, small.new("sqlite"), tmp_path, hidden="stay")
    assert "a.order 3 customer: points to a.customer 3, which does not exist" in caught.value.why
    # What could not be removed afterwards is named.
    assert "__restore_" in caught.value.why and "may hold personal data: Somebody holds it." in caught.value.why


def test_some_models_only_and_the_target_s_hidden_rows(small, one, cluster, tmp_path):
    two = small.new("sqlite")
    shell(two, "from a.models import *\nCustomer(name='x', removed=True).save(force_insert=True)\nprint(1)")
    report, done, side = migrate(cluster, one, two, tmp_path, labels=["a.Customer"])
    assert done["proof"]["models"]["a.customer"]["rows"] == 4
    assert text_of(one, labels=["a.Customer"], all=True) == text_of(side, labels=["a.Customer"], all=True)
    assert any("hides are replaced like all others: a.customer 1." in line for line in report)


def test_models_can_be_excluded(small, one, cluster, tmp_path):
    report, done, side = migrate(cluster, one, small.new("sqlite"), tmp_path, exclude=["a.Log", "auth"])
    assert "a.log" not in done["proof"]["models"] and done["proof"]["models"]["a.order"]["rows"] == 4
    assert text_of(side, labels=["a.Log"]) == b"[]"
    assert any("Excluded (migrate_exclude): a.log, auth.group, auth.permission, auth.user." in line for line in report)
    report = migration_plan.lines(
        migration_run.make_plan(
            MigrationRequest.from_values(
                {"site": side.as_dict(), "directory": str(tmp_path / "in"), "exclude": ["a.Order"]}
            ),
            migration_source.look(one, None, "", [], False, ABOUT, ["a.Order"]),
        )
    )
    assert any("a.log.order refers to a.order, which is excluded" in line for line in report)


def test_a_folder_that_others_may_write_into_is_in_the_plan(small, one, tmp_path):
    """Before anything is dumped: beside the file is where a run keeps its state."""
    two = small.new("sqlite")
    small.folder.chmod(0o777)
    try:
        spec = MigrationRequest.from_values(
            {"site": two.as_dict(), "directory": str(tmp_path / "in"), "keeper": "root"}
        )
        (stop,) = [
            line for line in migration_plan.lines(migration_run.make_plan(spec, {})) if line.startswith("BLOCKED:")
        ]
    finally:
        small.folder.chmod(0o700)
    assert "cannot be replaced" in stop and "The folder is not private" in stop and "go-w" in stop
