"""Reference data: what the parser of offers recognises, keyed by the word itself, with the spellings met."""

from django.db import models


class Dated(models.Model):
    created = models.DateTimeField(auto_now_add=True)
    updated = models.DateTimeField(auto_now=True)

    class Meta:
        abstract = True


class Contract(Dated):
    code = models.CharField(max_length=30, primary_key=True)
    title = models.CharField(max_length=120)
    comment = models.TextField(blank=True)

    class Meta:
        ordering = ["code"]


class ContractVariation(models.Model):
    contract = models.ForeignKey(Contract, on_delete=models.CASCADE, related_name="variations")
    label = models.CharField(max_length=80, unique=True)


class Trade(Dated):
    name = models.CharField(max_length=80, primary_key=True)
    # As narrow as the real field that SQLite overfills without a word.
    comment = models.CharField(max_length=5, blank=True)

    class Meta:
        ordering = ["name"]


class TradeVariation(models.Model):
    trade = models.ForeignKey(Trade, on_delete=models.CASCADE, related_name="variations")
    label = models.CharField(max_length=80, unique=True)


class Place(Dated):
    SCALES = [("VILLE", "Ville"), ("DEPARTEMENT", "Département"), ("REGION", "Région"), ("PAYS", "Pays")]

    name = models.CharField(max_length=80, primary_key=True)
    code = models.CharField(max_length=5)
    scale = models.CharField(max_length=15, choices=SCALES)
    inhabitants = models.IntegerField(null=True, blank=True)

    class Meta:
        ordering = ["name"]
        unique_together = [("scale", "code")]


class PlaceVariation(models.Model):
    place = models.ForeignKey(Place, on_delete=models.CASCADE, related_name="variations")
    label = models.CharField(max_length=80)


class Source(Dated):
    name = models.CharField(max_length=40, unique=True)
    url = models.URLField(blank=True)
    comment = models.TextField(blank=True)


class Technology(Dated):
    name = models.CharField(max_length=60, unique=True)
    license = models.CharField(max_length=20, default="INCONNUE")
    kind = models.CharField(max_length=20, default="LOGICIEL")

    class Meta:
        ordering = ["name"]


class TechnologyVariation(models.Model):
    technology = models.ForeignKey(Technology, on_delete=models.CASCADE, related_name="variations")
    label = models.CharField(max_length=60, unique=True)
