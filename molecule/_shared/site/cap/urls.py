from django.contrib import admin
from django.contrib.auth.views import LoginView
from django.urls import path

from offers import views

urlpatterns = [
    path("", views.home, name="home"),
    path("offres/<int:pk>/", views.offer, name="offer"),
    path("pages/<slug:slug>/", views.article, name="article"),
    path("connexion/", LoginView.as_view(), name="login"),
    path("admin/", admin.site.urls),
]
