"""Towns on the map."""

from django.db import models

from reference.models import Place
from territories.fields import PointField


class Town(models.Model):
    name = models.CharField(max_length=80)
    place = models.ForeignKey(Place, null=True, on_delete=models.SET_NULL)
    location = PointField(srid=4326, null=True)
    surface = models.FloatField(null=True)

    class Meta:
        unique_together = [("name", "place")]
