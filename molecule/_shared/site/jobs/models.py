"""The reference models that El Géo Paso's published fixtures are of, by their field names alone.

Installed only where SITE_EXTRA_APPS names it: for loading the real fixtures next to the invented site.
"""

from django.db import models


class Dated(models.Model):
    created = models.DateTimeField(auto_now_add=True)
    updated = models.DateTimeField(auto_now=True)

    class Meta:
        abstract = True


class Contract(Dated):
    abbreviation = models.CharField(max_length=50, primary_key=True)
    name = models.CharField(max_length=250)
    comment = models.TextField(blank=True)


class ContractVariations(models.Model):
    label = models.CharField(max_length=250, unique=True)
    name = models.ForeignKey(Contract, on_delete=models.CASCADE)


class JobPosition(Dated):
    name = models.CharField(max_length=250, primary_key=True)
    comment = models.CharField(max_length=5, blank=True)


class JobPositionVariations(models.Model):
    label = models.CharField(max_length=250, unique=True)
    name = models.ForeignKey(JobPosition, on_delete=models.CASCADE)


class Place(Dated):
    name = models.CharField(max_length=250, primary_key=True)
    code = models.CharField(max_length=5)
    scale = models.CharField(max_length=15)


class PlaceVariations(models.Model):
    label = models.CharField(max_length=250)
    name = models.ForeignKey(Place, on_delete=models.CASCADE)


class Source(Dated):
    name = models.CharField(max_length=100)
    url = models.URLField(max_length=250, blank=True)
    comment = models.CharField(max_length=500, blank=True)


class Technology(Dated):
    name = models.CharField(max_length=100, unique=True)
    license = models.CharField(max_length=25)
    type_soft = models.CharField(max_length=25)


class TechnologyVariations(models.Model):
    label = models.CharField(max_length=250)
    name = models.ForeignKey(Technology, on_delete=models.CASCADE)
