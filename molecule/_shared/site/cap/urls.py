from django.conf import settings
from django.contrib import admin
from django.contrib.auth.views import LoginView
from django.urls import include, path

from offers import views

urlpatterns = [
    path("", views.home, name="home"),
    path("offres/<int:pk>/", views.offer, name="offer"),
    path("pages/<slug:slug>/", views.article, name="article"),
    path("connexion/", LoginView.as_view(), name="login"),
    # Before the administration's own, as Smuggler wants it.
    *([path("admin/", include("smuggler.urls"))] if "smuggler" in settings.INSTALLED_APPS else []),
    path("admin/", admin.site.urls),
]
