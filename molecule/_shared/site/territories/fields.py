"""A point that is a geometry where the database has geometries, and its text (EWKT) where it has none.

Fixtures hold the same text both ways, so that data goes from PostGIS to a SQLite without SpatiaLite and back.
"""

from django.conf import settings
from django.db import models

if settings.GEOGRAPHIC:
    from django.contrib.gis.db.models import PointField
else:

    class PointField(models.TextField):
        def __init__(self, *args, srid=4326, **kwargs):
            super().__init__(*args, **kwargs)
            self.srid = srid

        def deconstruct(self):
            name, path, args, kwargs = super().deconstruct()
            return name, path, args, dict(kwargs, srid=self.srid)
