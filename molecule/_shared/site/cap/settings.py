"""Settings of the sample site: all that differs between hosts stands in the environment or in `.env`."""

import os
from pathlib import Path
from urllib.parse import parse_qsl, unquote, urlsplit

BASE_DIR = Path(__file__).resolve().parent.parent


def _environment():
    """The environment, completed by the lines of the environment file (the environment itself wins)."""
    values = {}
    path = Path(os.environ.get("SITE_ENV", str(BASE_DIR / ".env")))
    if path.exists():
        for line in path.read_text(encoding="utf-8").splitlines():
            name, result, value = line.partition("=")
            if result and not name.lstrip().startswith("#"):
                values[name.strip()] = value.strip().strip("\"'")
    values.update(os.environ)
    return values


ENV = _environment()

ENGINES = {
    "postgres": "django.db.backends.postgresql",
    "postgis": "django.contrib.gis.db.backends.postgis",
    "sqlite": "django.db.backends.sqlite3",
    "spatialite": "django.contrib.gis.db.backends.spatialite",
}


def _database(url):
    """Django's database settings from `postgis://user:secret@host:port/name` or `sqlite:///file`."""
    parts = urlsplit(url)
    engine = ENGINES[parts.scheme]
    if parts.scheme in ("sqlite", "spatialite"):
        path = unquote(parts.path[1:]) or "db.sqlite3"
        return {"ENGINE": engine, "NAME": str(BASE_DIR / path)}
    options = dict(parse_qsl(parts.query))
    return {
        "ENGINE": engine,
        "NAME": unquote(parts.path[1:]),
        "USER": unquote(parts.username or ""),
        "PASSWORD": unquote(parts.password or ""),
        "HOST": unquote(parts.hostname or "") or options.get("host", ""),
        "PORT": str(parts.port or options.get("port", "")),
    }


SECRET_KEY = ENV.get("SECRET_KEY", "only-for-the-lab")
DEBUG = ENV.get("DEBUG", "") == "1"
ALLOWED_HOSTS = ["*"]
DATABASES = {"default": _database(ENV.get("DATABASE_URL", "sqlite:///db.sqlite3"))}
GEOGRAPHIC = DATABASES["default"]["ENGINE"].startswith("django.contrib.gis")
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"

# The order of the applications decides which numbers permissions get: SITE_APPS=reversed gives others.
_OWN = ["reference", "offers", "pages", "territories", "people"]
if ENV.get("SITE_APPS") == "reversed":
    _OWN.reverse()
INSTALLED_APPS = [
    *(["django.contrib.gis"] if GEOGRAPHIC else []),
    *_OWN,
    "django.contrib.admin",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.messages",
    "django.contrib.sites",
    *[app for app in ENV.get("SITE_EXTRA_APPS", "").split(",") if app],
]
MIDDLEWARE = [
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
]
ROOT_URLCONF = "cap.urls"
WSGI_APPLICATION = "cap.wsgi.application"
TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "DIRS": [str(BASE_DIR / "templates")],
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
            ]
        },
    }
]
LANGUAGE_CODE = "fr-fr"
TIME_ZONE = "Europe/Paris"
USE_TZ = True
STATIC_URL = "/static/"
MEDIA_ROOT = str(BASE_DIR / "media")
LOGIN_REDIRECT_URL = "/"
SITE_ID = 1
FIXTURE_DIRS = [ENV.get("FIXTURE_DIR", str(BASE_DIR / "fixtures"))]
SMUGGLER_FIXTURE_DIR = FIXTURE_DIRS[0]
