"""Pages as a CMS keeps them. Installed only where SITE_EXTRA_APPS names it."""

from django.db import models


class Page(models.Model):
    slug = models.SlugField(unique=True)
    title = models.CharField(max_length=250)
    parent = models.ForeignKey("self", on_delete=models.CASCADE, null=True, blank=True)
