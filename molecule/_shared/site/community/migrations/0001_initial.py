"""By `makemigrations`, but for what not every database and Django has: arrays and generated columns."""

import django
import django.db.models.deletion
import django.db.models.functions.text
from django.conf import settings
from django.db import migrations, models

from community.models import POSTGRESQL

if POSTGRESQL:
    import django.contrib.postgres.fields

    TAGS = django.contrib.postgres.fields.ArrayField(models.CharField(max_length=20), default=list, size=None)
else:
    TAGS = models.JSONField(default=list)
FOLDED = []
if django.VERSION >= (5,):
    lower = django.db.models.functions.text.Lower("email")
    output = models.CharField(max_length=254)
    FOLDED = [("folded", models.GeneratedField(db_persist=True, expression=lower, output_field=output))]


class Migration(migrations.Migration):
    initial = True

    dependencies = [
        ("contenttypes", "0002_remove_content_type_name"),
        ("offers", "0001_initial"),
        migrations.swappable_dependency(settings.AUTH_USER_MODEL),
    ]

    operations = [
        migrations.CreateModel(
            name="Branch",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("path", models.CharField(max_length=255, unique=True)),
                ("depth", models.PositiveIntegerField()),
                ("numchild", models.PositiveIntegerField(default=0)),
                ("name", models.CharField(max_length=40)),
            ],
            options={
                "ordering": ["path"],
            },
        ),
        migrations.CreateModel(
            name="Work",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("topic", models.CharField(max_length=60)),
                (
                    "kind",
                    models.ForeignKey(
                        editable=False,
                        null=True,
                        on_delete=django.db.models.deletion.CASCADE,
                        to="contenttypes.contenttype",
                    ),
                ),
            ],
        ),
        migrations.CreateModel(
            name="Comment",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("text", models.TextField()),
                ("tags", TAGS),
                ("email", models.EmailField(max_length=254)),
                ("removed", models.DateTimeField(null=True)),
                *FOLDED,
                ("author", models.ForeignKey(on_delete=django.db.models.deletion.PROTECT, to=settings.AUTH_USER_MODEL)),
                ("liked_by", models.ManyToManyField(related_name="+", to=settings.AUTH_USER_MODEL)),
                ("offer", models.ForeignKey(on_delete=django.db.models.deletion.CASCADE, to="offers.offer")),
            ],
        ),
        migrations.CreateModel(
            name="Map",
            fields=[
                (
                    "work_ptr",
                    models.OneToOneField(
                        auto_created=True,
                        on_delete=django.db.models.deletion.CASCADE,
                        parent_link=True,
                        primary_key=True,
                        serialize=False,
                        to="community.work",
                    ),
                ),
                ("cartographer", models.CharField(max_length=60)),
            ],
            bases=("community.work",),
        ),
    ]
