"""Offers as they came in, and what was read from them."""

import uuid

from django.db import models

from reference.models import Contract, Dated, Place, Source, Technology, Trade


class RawOffer(models.Model):
    guid = models.CharField(max_length=64, unique=True)
    source = models.ForeignKey(Source, on_delete=models.PROTECT)
    title = models.CharField(max_length=250)
    content = models.TextField()
    payload = models.JSONField(default=dict)
    received = models.DateTimeField()
    created = models.DateTimeField(auto_now_add=True)

    def __str__(self):
        return self.title


class Offer(Dated):
    raw = models.OneToOneField(RawOffer, on_delete=models.CASCADE)
    reference = models.UUIDField(default=uuid.uuid4, unique=True)
    title = models.CharField(max_length=250)
    body = models.TextField()
    contract = models.ForeignKey(Contract, on_delete=models.PROTECT)
    trade = models.ForeignKey(Trade, null=True, blank=True, on_delete=models.SET_NULL)
    places = models.ManyToManyField(Place, blank=True)
    technologies = models.ManyToManyField(Technology, blank=True)
    published = models.DateTimeField()
    week = models.DateField()
    salary = models.DecimalField(max_digits=9, decimal_places=2, null=True, blank=True)
    experience = models.DurationField(null=True, blank=True)
    score = models.FloatField(default=0)
    views = models.PositiveIntegerField(default=0)
    remote = models.BooleanField(default=False)
    contact_name = models.CharField(max_length=120, blank=True)
    contact_email = models.EmailField(blank=True)
    contact_phone = models.CharField(max_length=20, blank=True)
    posted_from = models.GenericIPAddressField(null=True, blank=True)

    def __str__(self):
        return self.title
