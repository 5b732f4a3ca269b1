"""The site's own pages."""

from django.conf import settings
from django.db import models
from django.db.models.signals import post_save, pre_save
from django.dispatch import receiver


class Section(models.Model):
    title = models.CharField(max_length=80)
    parent = models.ForeignKey("self", null=True, blank=True, on_delete=models.CASCADE)


class Keyword(models.Model):
    word = models.CharField(max_length=40, unique=True)


class Article(models.Model):
    slug = models.SlugField(unique=True)
    title = models.CharField(max_length=160)
    body = models.TextField()
    section = models.ForeignKey(Section, null=True, on_delete=models.SET_NULL)
    author = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.PROTECT)
    picture = models.FileField(upload_to="articles", blank=True)
    keywords = models.ManyToManyField(Keyword, through="ArticleKeyword")
    published = models.BooleanField(default=False)
    reading_time = models.PositiveSmallIntegerField(null=True)
    opens_at = models.TimeField(null=True)
    updated = models.DateTimeField(auto_now=True)


class ArticleKeyword(models.Model):
    """A custom through table: the keywords of an article have an order."""

    article = models.ForeignKey(Article, on_delete=models.CASCADE)
    keyword = models.ForeignKey(Keyword, on_delete=models.CASCADE)
    position = models.PositiveSmallIntegerField(default=0)


class Event(Article):
    """An inherited model: half of each row stands in the article's table."""

    starts = models.DateTimeField()
    room = models.CharField(max_length=40, blank=True)


class Banner(models.Model):
    """A model that listens: its code is set at each save, but for saves that fixtures make."""

    text = models.CharField(max_length=120)
    code = models.CharField(max_length=40, blank=True)
    saves = models.IntegerField(default=0)


class BannerLog(models.Model):
    """One row for each save of a banner that was not a fixture's."""

    banner = models.IntegerField()


@receiver(pre_save, sender=Banner)
def banner_code(sender, instance, raw=False, **kwargs):
    if not raw:
        instance.code = instance.text[:40].lower()
        instance.saves += 1


@receiver(post_save, sender=Banner)
def banner_saved(sender, instance, raw=False, using=None, **kwargs):
    if not raw:
        BannerLog.objects.using(using).create(banner=instance.pk)
