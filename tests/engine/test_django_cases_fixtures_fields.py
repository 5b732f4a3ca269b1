"""Fields with a conversion of their own, natural keys, keys below 1, models with a manager or a making of their own:
dumped and loaded as by stock, and fast."""

import pytest
from sample_site import ENVIRONMENTS, interpreter, manage, shell, text_of, write
from sauvegarde.django import load
from small_site import Small, same_rows

MODELS = """
import base64, json
import django
from django.conf import settings
from django.db import models

class SealedField(models.JSONField):
    def from_db_value(self, value, expression, connection):
        value = super().from_db_value(value, expression, connection)
        return None if value is None else json.loads(base64.b64decode(value[::-1]))
    def get_prep_value(self, value):
        return None if value is None else base64.b64encode(json.dumps(value).encode()).decode()[::-1]

class Palette:
    def __init__(self, main):
        self.main = main

class PaletteField(models.JSONField):
    def from_db_value(self, value, expression, connection):
        value = super().from_db_value(value, expression, connection)
        return None if value is None else Palette(**value)
    def to_python(self, value):
        return Palette(**value) if isinstance(value, dict) else value
    def get_prep_value(self, value):
        return {"main": value.main} if isinstance(value, Palette) else value
    def value_to_string(self, obj):
        return self.get_prep_value(self.value_from_object(obj))

class ShoutedField(models.CharField):
    def get_db_prep_save(self, value, connection):
        return super().get_db_prep_save(value and value.upper(), connection)

class Own(models.Model):
    record = SealedField(default=dict)
    palette = PaletteField(null=True)
    plain = models.JSONField(default=dict)
    name = ShoutedField(max_length=20)

class Made(models.Model):
    title = models.CharField(max_length=20)
    mine = models.ManyToManyField(Own)
    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        if self.title == "short":
            self.title = "longer"

class CountryManager(models.Manager):
    def get_by_natural_key(self, code):
        return self.get(code=code)

class Country(models.Model):
    code = models.CharField(max_length=2, unique=True)
    objects = CountryManager()
    def natural_key(self):
        return (self.code,)

class CityManager(models.Manager):
    def get_by_natural_key(self, name, country):
        return self.get(name=name, country=Country.objects.get_by_natural_key(*country))

class City(models.Model):
    name = models.CharField(max_length=30)
    country = models.ForeignKey(Country, models.CASCADE)
    twin = models.ForeignKey("self", models.SET_NULL, null=True)
    objects = CityManager()
    def natural_key(self):
        return (self.name, self.country.natural_key())

class LooseManager(models.Manager):
    def get_by_natural_key(self, name):
        return self.get(name__iexact=name.strip())

class Loose(models.Model):
    name = models.CharField(max_length=30)
    objects = LooseManager()
    def natural_key(self):
        return (self.name,)

class Shop(models.Model):
    name = models.CharField(max_length=30)
    city = models.ForeignKey(City, models.CASCADE)
    loose = models.ForeignKey(Loose, models.CASCADE)
    by = models.ForeignKey(settings.AUTH_USER_MODEL, models.CASCADE)
    cities = models.ManyToManyField(City, related_name="+")

class Alive(models.Manager):
    def get_queryset(self):
        return super().get_queryset().exclude(name="gone")

class Hidden(models.Model):
    name = models.CharField(max_length=20)
    objects = Alive()

class Lister(models.Model):
    hidden = models.ManyToManyField(Hidden)

class Below(models.Model):
    name = models.CharField(max_length=20)

if django.VERSION >= (5,):
    from django.db.models.fields.json import KeyTransform
    from django.db.models.functions import Concat, Lower

    class Member(models.Model):
        first = models.CharField(max_length=40)
        last = models.CharField(max_length=40)
        payload = models.JSONField(default=dict)
        full = models.GeneratedField(
            expression=Concat("first", models.Value(" "), "last"), output_field=models.CharField(max_length=90),
            db_persist=True)
        folded = models.GeneratedField(
            expression=Lower("first"), output_field=models.CharField(max_length=40), db_persist=True)
        part = models.GeneratedField(
            expression=KeyTransform("part", "payload"), output_field=models.JSONField(), db_persist=True)
"""
FILL = """
from a import models as m
from a.models import *
from django.contrib.auth.models import User
own = [Own.objects.create(record={"illness": "secret", "n": [n]}, palette=Palette("blue") if n % 2 else None,
                          plain={"a": [None, "é"]}, name="x") for n in range(3)]
made = [Made.objects.create(title=title) for title in ("short", "other")]
made[1].mine.set(own)
Made.objects.filter(pk=made[0].pk).update(title="short")
fr, de = Country.objects.create(code="FR"), Country.objects.create(code="DE")
lyon, other = City.objects.create(name="Lyon", country=fr), City.objects.create(name="Lyon", country=de)
lyon.twin = other
lyon.save()
other.twin = lyon
other.save()
loose = Loose.objects.create(name="Loose")
users = [User.objects.create(username="u%d" % n, date_joined="2024-01-02T03:04:05Z") for n in range(12)]
for n in range(40):
    shop = Shop.objects.create(name="s%d" % n, city=(lyon, other)[n % 2], loose=loose, by=users[n % 12])
    shop.cities.set([lyon, other][: n % 3])
hidden = [Hidden.objects.create(name=name) for name in ("here", "gone")]
Lister.objects.create().hidden.set(hidden)
Below.objects.create(pk=0, name="none"), Below.objects.create(pk=-1, name="less")
if hasattr(m, "Member"):
    Member.objects.create(first="Zoe", last="Martin", payload={"part": {"city": "Lyon"}})
    Member.objects.create(first="A", last="B \\\\ \\"")
print(json.dumps("filled"))
"""
NATURAL = ["--natural-foreign", "--exclude", "contenttypes", "--exclude", "auth.permission"]


@pytest.fixture(scope="module", params=ENVIRONMENTS)
def small(request, cluster, tmp_path_factory):
    return Small(interpreter(request.param), cluster, tmp_path_factory.mktemp("small"), MODELS)


@pytest.mark.parametrize("kind", ["pg", "sqlite"])
def test_fields_and_keys_of_their_own_are_as_with_stock(small, tmp_path, kind):
    source = small.new(kind)
    assert shell(source, FILL) == "filled"
    expected = manage(source, "dumpdata", *NATURAL)
    assert text_of(source) == expected
    path = tmp_path / "data.json"
    path.write_bytes(expected)
    stock, ours = small.new(kind), small.new(kind)
    manage(stock, "loaddata", "-v0", str(path)) if kind == "sqlite" else None  # it cannot set a sequence to 0
    result = load.load(ours, [path], {})
    assert result["counts"]["a.shop"] == 40
    assert result["stock"].keys() <= {"a.city", "a.made"}
    labels = ["auth.User", "a"]
    if kind == "sqlite":
        assert same_rows(stock, ours, *labels)
    raw = "SELECT record, name FROM a_own ORDER BY id"
    stored = small.rows(ours, raw)
    assert stored == small.rows(source, raw)
    assert len(stored) == 3 and "secret" not in str(stored)
    assert text_of(ours) == expected.replace(b'"title": "short"', b'"title": "longer"')
    new = "from a.models import *\nprint(json.dumps(Below.objects.create(name='new').pk))"
    assert shell(ours, new) == 1
    # Once more, over what is there, and in place of it.
    for mode in ("merge", "replace"):
        load.load(ours, [path], {"mode": mode})
        assert text_of(ours).replace(b"longer", b"short") == text_of(ours, all=False).replace(b"longer", b"short")


def test_all_rows_are_dumped_where_a_manager_hides_some(small, tmp_path):
    source = small.new("sqlite")
    assert shell(source, FILL) == "filled"
    text = text_of(source, all=True, labels=["a.Hidden", "a.Lister"]).decode()
    assert '"gone"' in text and '"hidden": [1, 2]' in text
    assert '"gone"' not in text_of(source, labels=["a.Hidden"]).decode()


def test_natural_keys_that_lead_nowhere_are_all_named(small, tmp_path):
    where = small.new("sqlite")
    shop = {"name": "s", "city": ["Lyon", ["FR"]], "loose": ["x"], "by": ["u"], "cities": [["Lyon", ["FR"]]]}
    entries = [{"model": "a.shop", "pk": n, "fields": shop} for n in (1, 2)]
    result = load.load(where, [write(tmp_path / "bad.json", entries)], {"check_only": True})
    assert {(each["pk"], each["field"]) for each in result["problems"]} == {
        (n, name) for n in (1, 2) for name in ("city", "loose", "by", "cities")
    }
    assert "points to a.city ['Lyon', ['FR']], which does not exist" in {each["detail"] for each in result["problems"]}


POSTGRES = """
from django.contrib.postgres.fields import *
from django.contrib.postgres.search import SearchVectorField
from django.db import models

class Odd(models.Model):
    names = ArrayField(models.CharField(max_length=40), default=list)
    deep = ArrayField(ArrayField(models.IntegerField(null=True)), default=list)
    when = ArrayField(models.DateTimeField(), default=list)
    prices = ArrayField(models.DecimalField(max_digits=6, decimal_places=2), null=True)
    facts = HStoreField(default=dict)
    days = DateRangeField(null=True)
    times = DateTimeRangeField(null=True)
    numbers = IntegerRangeField(null=True)
    amounts = DecimalRangeField(null=True)
    words = SearchVectorField(null=True)
"""
POSTGRES_FILL = """
import datetime as d, decimal
from a.models import *
at = d.datetime(2024, 1, 2, 3, 4, 5, tzinfo=d.timezone.utc)
Odd.objects.create(names=["a", 'q"uo\\\\te', "com,ma", "{brace}", "NULL", "", "é\\t\\n"], deep=[[1, None], [3, 4]],
                   when=[at], prices=[decimal.Decimal("1.50")], facts={"k": "v", 'q"': None, "b\\\\": "=>, é"},
                   days=(at.date(), None), times=(at, at + d.timedelta(1)), numbers=(1, 5), amounts=(None, 2))
Odd.objects.create()
Odd.objects.update(words="'fat':2 'rat':3A")
print(json.dumps("filled"))
"""


def test_fields_of_postgresql_are_rows(cluster, tmp_path_factory, tmp_path):
    where = Small(
        interpreter(ENVIRONMENTS[-1]), cluster, tmp_path_factory.mktemp("odd"), POSTGRES, extensions=["hstore"]
    )
    source, ours = where.new("pg"), where.new("pg")
    assert shell(source, POSTGRES_FILL) == "filled"
    expected = manage(source, "dumpdata", *NATURAL)
    assert text_of(source) == expected
    path = tmp_path / "data.json"
    path.write_bytes(expected)
    result = load.load(ours, [path], {})
    assert result["stock"] == {} and result["counts"] == {"a.odd": 2}
    assert same_rows(source, ours)


POLYMORPHIC = """
from django.db import models
from polymorphic.models import PolymorphicModel

class Project(PolymorphicModel):
    topic = models.CharField(max_length=30)

class ArtProject(Project):
    artist = models.CharField(max_length=30)
"""


@pytest.mark.parametrize("kind", ["pg", "sqlite"])
def test_polymorphic_models_are_as_with_stock(cluster, tmp_path_factory, tmp_path, kind):
    python = interpreter(ENVIRONMENTS[0], "django-polymorphic==4.1.0")
    where = Small(python, cluster, tmp_path_factory.mktemp("poly"), POLYMORPHIC, apps="polymorphic")
    source, stock, ours = (where.new(kind) for _ in range(3))
    fill = "from a.models import *\nProject.objects.create(topic='Plain')\n"
    fill += "ArtProject.objects.create(topic='Painting', artist='T. T.')\nprint(json.dumps(Project.objects.count()))"
    assert shell(source, fill) == 2
    expected = manage(source, "dumpdata", *NATURAL)
    for every in (False, True):
        assert text_of(source, all=every) == expected
    path = tmp_path / "data.json"
    path.write_bytes(expected)
    manage(stock, "loaddata", "-v0", str(path))
    assert load.load(ours, [path], {})["stock"] == {}
    assert same_rows(stock, ours)
    load.load(ours, [path], {"mode": "replace"})
    assert same_rows(stock, ours)
    kinds = "from a.models import *\nprint(json.dumps([type(p).__name__ for p in Project.objects.order_by('pk')]))"
    assert shell(ours, kinds) == ["Project", "ArtProject"]


def test_xml_says_its_own_encoding(small, tmp_path):
    where = small.new("sqlite")
    text = '<?xml version="1.0" encoding="iso-8859-1"?><django-objects version="1.0"><object model="a.below" pk="7">'
    text += '<field name="name" type="CharField">Caf\xe9</field></object></django-objects>'
    path = tmp_path / "latin.xml"
    path.write_bytes(text.encode("latin-1"))
    assert load.load(where, [path], {})["counts"] == {"a.below": 1}
    code = "from a.models import *\nprint(json.dumps(Below.objects.get(pk=7).name))"
    assert shell(where, code) == "Caf\xe9"
