"""The people behind the accounts."""

from django.conf import settings
from django.db import models


class Profile(models.Model):
    user = models.OneToOneField(settings.AUTH_USER_MODEL, on_delete=models.CASCADE, primary_key=True)
    phone = models.CharField(max_length=20, blank=True)
    birth_date = models.DateField(null=True, blank=True)
    street_address = models.CharField(max_length=200, blank=True)
    postcode = models.CharField(max_length=5, blank=True)
    api_token = models.CharField(max_length=40, unique=True)
    last_ip = models.GenericIPAddressField(null=True, blank=True)


class Subscription(models.Model):
    email = models.EmailField(unique=True)
    first_name = models.CharField(max_length=60, blank=True)
    confirmed = models.BooleanField(default=False)
    subscribed = models.DateTimeField(auto_now_add=True)
    profile = models.ForeignKey(Profile, null=True, blank=True, on_delete=models.SET_NULL)
