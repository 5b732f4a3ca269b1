import json
import threading
from contextlib import contextmanager
from pathlib import Path

import pytest
import yaml
from tests_support.hosts import Server, lab_host, play

CANARY = "Hildebrandé Zorgolim"  # nowhere in the code: only in what was generated in production
KEY = "00112233445566778899aabbccddeeff"
PASSWORD = "développement"
MANAGE = "cd /srv/cap/site && /srv/cap/venv/bin/python manage.py"
SITE = yaml.safe_load((Path(__file__).parents[1] / "group_vars/all.yml").read_text())["django_site"]
RUNS = "/var/lib/sauvegarde/migrations"
SQLITE = "/srv/cap/data/cap.sqlite3"
TARGETS = {"dev": "cap.sqlite3@dev", "prod": "cap@prod"}

# Each answer of the site, a login included.
PAGES = """
from django.test import Client
from django.contrib.auth.models import User
from offers.models import Offer
from pages.models import Article
client = Client(SERVER_NAME='localhost')
user = User.objects.filter(is_superuser=True).order_by('pk').first()
pages = ['/', f'/offres/{Offer.objects.order_by("pk").first().pk}/', f'/pages/{Article.objects.first().slug}/']
codes = [client.get(page).status_code for page in pages]
PASSWORD
told = [codes, client.login(username=user.username, password=word), client.get('/admin/offers/').status_code]
told = [codes, told[1], client.get('/admin/').status_code]
"""
# Whom what is allowed, by names; and the numbers behind the names.
PERMISSIONS = """
from django.contrib.auth.models import Group, Permission, User
def names(permissions):
    return sorted('{}.{}'.format(*p) for p in permissions.values_list('content_type__app_label', 'codename'))
told = {
    'groups': {g.name: names(g.permissions) for g in Group.objects.all()},
    'users': {u.username: [names(u.user_permissions), sorted(u.groups.values_list('name', flat=True))]
              for u in User.objects.all()},
}
"""
NUMBERS = """
from django.contrib.auth.models import Permission
told = {'{}.{}'.format(app, name): pk
        for app, name, pk in Permission.objects.values_list('content_type__app_label', 'codename', 'pk')}
"""
COUNTS = """
from offers.models import Offer, RawOffer
from django.contrib.auth.models import User
told = {'offers': Offer.objects.count(), 'raw': RawOffer.objects.count(), 'users': User.objects.count()}
"""


class SiteHost:
    """The site on one lab host, asked as its keeper would."""

    def __init__(self, name):
        self.name = name
        self.host = lab_host(name)

    def root(self, command):
        """Output of a shell line as root."""
        return self.host.check_output("sudo sh -c %s", command)

    def manage(self, command, environment="", user="cap"):
        """Output of a stock command of the site, as the site's own user."""
        return self.host.check_output(f"sudo -u {user} env {environment} sh -c %s", f"{MANAGE} {command}")

    def shell(self, code, environment=""):
        """What the code puts into `told`, from inside the site."""
        text = "import json\n" + code + "\nprint(json.dumps(told))"
        command = f"sudo -u cap env {environment} sh -c %s"
        out = self.host.check_output("printf %%s %s | " + command, text, MANAGE + " shell")
        return json.loads(out.strip().splitlines()[-1])

    def pages(self, password=None):
        """[codes of pages], whether the first administrator could log in, code of the administration."""
        word = f"word = {password!r}" if password else "word = 'secret-1'; user.set_password(word); user.save()"
        return self.shell(PAGES.replace("PASSWORD", word))

    def module(self, name, **arguments):
        """The result of one of the modules, as root."""
        return self.host.ansible(name, json.dumps(dict({"site": SITE}, **arguments)), check=False, become=True)

    def dumped(self, **arguments):
        """{model: {key: object}} of our dump: related objects in one order, moments without the zeros that one database
        prints and another does not."""
        path = "/root/tested.jsonl"
        result = self.module("sauvegarde_dumpdata", path=path, **arguments)
        assert "counts" in result, result
        text = self.root(f"cat {path}; rm {path}")
        collected = {}
        for line in text.replace(".000Z", "Z").replace('.000"', '"').splitlines():
            entry = json.loads(line)
            for name, value in entry["fields"].items():
                if isinstance(value, list):
                    entry["fields"][name] = sorted(value, key=json.dumps)
            collected.setdefault(entry["model"], {})[json.dumps(entry["pk"])] = entry["fields"]
        return collected

    def report(self):
        """What the newest migration wrote down."""
        return json.loads(self.root(f"cat {RUNS}/$(ls {RUNS} | grep -E '^[0-9]{{8}}T' | tail -1)/state.json"))

    @contextmanager
    def meanwhile(self, command):
        """A shell line as root that runs while the block does; the block must see to its end. Yields its result."""
        ended = []
        thread = threading.Thread(target=lambda: ended.append(self.host.run("sudo sh -c %s", command)))
        thread.start()
        yield ended
        thread.join(300)
        assert ended, "it did not end"


def migrate(source, target, *options, confirm=True, **variables):
    """Run the playbook; the confirmation of what is replaced is said unless `confirm` is false."""
    output = {"migrate_confirm": TARGETS[target], "migrate_production": "overwrite production"} if confirm else {}
    values = dict({"migrate_source": source, "migrate_target": target}, **output, **variables)
    return play(*options, variables=values, playbook="playbooks/migrate.yml")


@pytest.fixture(scope="session")
def prod():
    return SiteHost("prod")


@pytest.fixture(scope="session")
def dev():
    return SiteHost("dev")


@pytest.fixture(scope="session")
def server():
    return Server(lab_host("prod"), "15")


@pytest.fixture(scope="session")
def policy(tmp_path_factory):
    """The drafted policy, with what a person would correct in it: the texts that name people."""
    path = tmp_path_factory.mktemp("policy") / "masking.yml"
    run = play(variables={"migrate_source": "prod", "policy_file": str(path)}, playbook="playbooks/policy.yml")
    assert run.code == 0, run.output
    result = yaml.safe_load(path.read_text())["migrate_policy"]
    result["models"]["offers.rawoffer"]["content"] = {"mask": "text"}
    result["password"] = PASSWORD
    return result
