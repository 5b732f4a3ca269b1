"""A side database is filled in silence: what listeners wrote on the source is part of its data."""

import pytest
from sample_site import ENVIRONMENTS, interpreter, manage, shell
from sauvegarde.archive import ids
from sauvegarde.django import data_load
from sauvegarde.errors import SauvegardeError
from sauvegarde.migrate import migration_plan, migration_run, migration_source
from sauvegarde.migrate.migration_request import MigrationRequest
from sauvegarde.restore import restore_state
from small_site import Small

MODELS = """
from django.conf import settings
from django.db import models
from django.db.models.signals import post_save
from django.dispatch import receiver

class Profile(models.Model):
    user = models.OneToOneField(settings.AUTH_USER_MODEL, models.CASCADE)
    bio = models.CharField(max_length=100, blank=True)

@receiver(post_save, sender=settings.AUTH_USER_MODEL)
def make_profile(sender, instance, created, **kwargs):
    if created:
        Profile.objects.create(user=instance)
"""
FILL = """
from a.models import *
from django.contrib.auth.models import User
for n in range(1, 4):
    User.objects.create(username="u%d" % n)

Profile.objects.all().delete()
for user in User.objects.order_by("-id")[:2]:
    Profile.objects.create(user=user, bio="b")

print(json.dumps(Profile.objects.count()))
"""
ABOUT = {"path": "", "mark": None, "keeper": "", "connection": {}, "server_directory": "", "environment": "production"}


def test_a_profile_that_a_listener_makes_does_not_stop_a_migration(cluster, tmp_path_factory, tmp_path):
    small = Small(interpreter(ENVIRONMENTS[0]), cluster, tmp_path_factory.mktemp("small"), MODELS)
    one, two = small.new("sqlite"), small.new("sqlite")
    assert shell(one, FILL) == 2
    result = migration_plan.survey(two)
    assert result["listeners"] == {"a.models.make_profile": 1}
    outcome = migration_source.make(one, tmp_path / "out", migration_source.options(None, "", [], False), ABOUT)
    spec = MigrationRequest.from_values(
        {"site": two.as_dict(), "directory": str(tmp_path / "in"), "path": outcome["path"]}
    )
    done = migration_run.fill(spec, ids.new_id(restore_state.folder(spec.directory)), result)
    assert done["proof"]["models"]["a.profile"]["rows"] == 2
    # Into a live database it is as with stock, which stops there.
    path = tmp_path / "data.json"
    path.write_bytes(manage(one, "dumpdata", "a", "auth.User"))
    with pytest.raises(SauvegardeError, match="refused it"):
        data_load.load(two, [path], {})
    assert data_load.load(two, [path], {"listeners": False})["counts"]["a.profile"] == 2
