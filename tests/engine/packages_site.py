"""A site of packages that many sites have, all installed together; its rows are made by the packages' own functions."""

from pathlib import Path

from sample_site import interpreter, manage
from small_site import Small

# With Django 5.2; molecule/debian/engine.yml fetches the same.
REQUIREMENTS = Path(__file__).resolve().parent / "packages.txt"

SETTINGS = """
INSTALLED_APPS = [
    "django.contrib.admin", "django.contrib.auth", "django.contrib.contenttypes", "django.contrib.messages",
    "django.contrib.sessions", "django.contrib.sites", "django.contrib.staticfiles",
    "wagtail.contrib.forms", "wagtail.contrib.redirects", "wagtail.embeds", "wagtail.sites", "wagtail.users",
    "wagtail.snippets", "wagtail.documents", "wagtail.images", "wagtail.search", "wagtail.admin", "wagtail",
    "modelcluster", "taggit", "polymorphic", "treebeard", "mptt", "parler", "guardian", "safedelete", "reversion",
    "django_ckeditor_5", "allauth", "allauth.account", "allauth.socialaccount", "allauth.mfa", "allauth.usersessions",
    "a",
]
MIDDLEWARE = [
    "django.contrib.sessions.middleware.SessionMiddleware", "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware", "allauth.account.middleware.AccountMiddleware",
]
TEMPLATES = [{
    "BACKEND": "django.template.backends.django.DjangoTemplates", "APP_DIRS": True,
    "OPTIONS": {"context_processors": [
        "django.template.context_processors.request", "django.contrib.auth.context_processors.auth",
        "django.contrib.messages.context_processors.messages",
    ]},
}]
AUTHENTICATION_BACKENDS = ["django.contrib.auth.backends.ModelBackend", "guardian.backends.ObjectPermissionBackend"]
ROOT_URLCONF = "a.urls"
SITE_ID = 1
STATIC_URL = "/static/"
MEDIA_ROOT = os.path.join(os.path.dirname(__file__), "media")
USE_I18N = True
LANGUAGE_CODE = "en"
LANGUAGES = WAGTAIL_CONTENT_LANGUAGES = [("en", "English"), ("fr", "French")]
WAGTAIL_I18N_ENABLED = True
WAGTAIL_SITE_NAME = "Packages"
WAGTAILADMIN_BASE_URL = "http://example.org"
PARLER_LANGUAGES = {None: ({"code": "en"}, {"code": "fr"})}
GUARDIAN_MONKEY_PATCH_USER = False
CKEDITOR_5_CONFIGS = {"default": {"toolbar": ["bold"]}}
SILENCED_SYSTEM_CHECKS = ["models.W042"]
EMAIL_BACKEND = "django.core.mail.backends.dummy.EmailBackend"
PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]
if not os.environ.get("MIGRATE_ALL"):
    # Tables by today's models: the packages' 210 migrations take 14 s a database. Only migrations make a search index.
    MIGRATION_MODULES = dict.fromkeys(
        [
            "account", "admin", "auth", "contenttypes", "guardian", "mfa", "reversion", "sessions", "sites",
            "socialaccount", "taggit", "usersessions", "wagtailadmin", "wagtailcore", "wagtaildocs", "wagtailembeds",
            "wagtailforms", "wagtailimages", "wagtailredirects", "wagtailusers",
        ]
    )
    MIGRATION_MODULES["wagtailsearch"] = "a.search_migrations"
"""
SEARCH_MIGRATION = """
import pkgutil
from importlib import import_module
from django.db import migrations
import wagtail.search.migrations as real
class Migration(migrations.Migration):
    initial = True
    dependencies = []
    operations = [
        operation
        for name in sorted(each.name for each in pkgutil.iter_modules(real.__path__))
        for operation in import_module(real.__name__ + "." + name).Migration.operations
    ]
"""
URLS = "urlpatterns = []\n"

MODELS = """
from django.contrib.contenttypes.fields import GenericForeignKey, GenericRelation
from django.contrib.contenttypes.models import ContentType
from django.db import models
from django_ckeditor_5.fields import CKEditor5Field
from modelcluster.fields import ParentalKey
from mptt.models import MPTTModel, TreeForeignKey
from parler.models import TranslatableModel, TranslatedFields
from polymorphic.models import PolymorphicModel
from safedelete.config import SOFT_DELETE_CASCADE
from safedelete.models import SafeDeleteModel
from taggit.managers import TaggableManager
from taggit.models import TaggedItemBase
from treebeard.al_tree import AL_Node
from treebeard.mp_tree import MP_Node
from treebeard.ns_tree import NS_Node
from wagtail.blocks import CharBlock, RichTextBlock
from wagtail.fields import RichTextField, StreamField
from wagtail.models import Orderable, Page
from wagtail.search import index
from wagtail.snippets.models import register_snippet

class Project(PolymorphicModel):
    topic = models.CharField(max_length=30)
    members = models.ManyToManyField("auth.User")
class ArtProject(Project):
    artist = models.CharField(max_length=30)
class ResearchProject(Project):
    supervisor = models.ForeignKey("auth.User", models.SET_NULL, null=True)
    builds_on = models.ForeignKey(Project, models.SET_NULL, null=True, related_name="followed_by")

class Branch(MP_Node):
    name = models.CharField(max_length=120)
    slug = models.SlugField(unique=True)
class Nest(NS_Node):
    name = models.CharField(max_length=120)
    node_order_by = ["name"]
class Twig(AL_Node):
    parent = models.ForeignKey("self", models.CASCADE, related_name="children_set", null=True, db_index=True)
    sib_order = models.PositiveIntegerField()
    name = models.CharField(max_length=120)
class Genre(MPTTModel):
    name = models.CharField(max_length=120, unique=True)
    parent = TreeForeignKey("self", models.CASCADE, null=True, blank=True, related_name="children")
    class MPTTMeta:
        order_insertion_by = ["name"]

class Article(TranslatableModel):
    translations = TranslatedFields(title=models.CharField(max_length=200), text=CKEditor5Field("Text"))
    tags = TaggableManager()
    written = models.DateTimeField(null=True)
    price = models.DecimalField(max_digits=8, decimal_places=2, default=0)

class Customer(SafeDeleteModel):
    _safedelete_policy = SOFT_DELETE_CASCADE
    name = models.CharField(max_length=50)
class Order(SafeDeleteModel):
    _safedelete_policy = SOFT_DELETE_CASCADE
    customer = models.ForeignKey(Customer, models.CASCADE)
    note = models.TextField(blank=True)

class BlogTag(TaggedItemBase):
    content_object = ParentalKey("a.BlogPage", on_delete=models.CASCADE, related_name="tagged_items")
class BlogPage(Page):
    intro = RichTextField(blank=True)
    body = StreamField([("heading", CharBlock()), ("text", RichTextBlock())], blank=True)
    hero = models.ForeignKey("wagtailimages.Image", models.SET_NULL, null=True, blank=True, related_name="+")
    tags = TaggableManager(through=BlogTag, blank=True)
    search_fields = Page.search_fields + [index.SearchField("intro")]
class BlogLink(Orderable):
    page = ParentalKey(BlogPage, on_delete=models.CASCADE, related_name="links")
    title = models.CharField(max_length=200)
    url = models.URLField()
@register_snippet
class Advert(index.Indexed, models.Model):
    text = models.CharField(max_length=255)
    search_fields = [index.SearchField("text")]

class Ledger(models.Model):
    # Unmanaged, with a table that a migration of the site's makes.
    entry = models.CharField(max_length=40)
    class Meta:
        managed = False
        db_table = "a_ledger"
class BranchTotal(models.Model):
    name = models.CharField(max_length=120, primary_key=True)
    class Meta:
        managed = False
        db_table = "a_branchtotal"
"""
MORE = """
from django.db import migrations
def fill(apps, schema_editor):
    # What Wagtail's own migrations make. The tables are those of the real models.
    from django.contrib.auth.models import Group
    from wagtail.models import Collection, Locale, Page, Site
    if Page.objects.exists():
        return
    Locale.objects.create(language_code="en")
    root = Page.add_root(instance=Page(title="Root", slug="root"))
    home = root.add_child(instance=Page(title="Welcome to your new Wagtail site!", slug="home"))
    Site.objects.create(hostname="localhost", root_page=home, is_default_site=True)
    Collection.add_root(name="Root")
    for name in ("Moderators", "Editors"):
        Group.objects.create(name=name)
class Migration(migrations.Migration):
    dependencies = [("a", "0001_initial"), ("wagtailsearch", "0001_initial")]
    operations = [
        migrations.RunPython(fill),
        migrations.RunSQL("CREATE TABLE a_ledger (id integer PRIMARY KEY, entry varchar(40) NOT NULL)"),
        migrations.RunSQL("CREATE VIEW a_branchtotal AS SELECT name, count(*) AS total FROM a_branch GROUP BY name"),
    ]
"""

FILL = """
import datetime, random
from decimal import Decimal
import reversion
from a.models import *
from allauth.account.models import EmailAddress, EmailConfirmation
from allauth.mfa.models import Authenticator
from allauth.socialaccount.models import SocialAccount, SocialApp, SocialToken
from django.contrib.auth.models import Group, Permission, User
from django.contrib.sites.models import Site as DjangoSite
from django.core.files.base import ContentFile
from django.core.files.images import ImageFile
from django.utils import timezone, translation
from guardian.shortcuts import assign_perm
from PIL import Image as Picture
import io
from wagtail.contrib.redirects.models import Redirect
from wagtail.documents.models import Document
from wagtail.images.models import Image
from wagtail.models import Collection, GroupCollectionPermission, GroupPagePermission, Locale, Page, Site, Task
from wagtail.models import Workflow, WorkflowPage, WorkflowTask, GroupApprovalTask, Comment, PageSubscription

random.seed(11)
now = timezone.now()
users = [
    User.objects.create_user(
        "user%d" % n, "person%d@people.example" % n, "x", first_name="Zephyrine", last_name="Canar%d" % n
    )
    for n in range(12)
]
boss = users[0]
User.objects.filter(pk=boss.pk).update(is_superuser=True, is_staff=True)
boss.refresh_from_db()
groups = [Group.objects.create(name="group %d" % n) for n in range(4)]
for n, user in enumerate(users):
    user.groups.add(groups[n % 4])

# polymorphic
plain = [Project.objects.create(topic="plain %d" % n) for n in range(10)]
art = [ArtProject.objects.create(topic="art %d" % n, artist="Zephyrine Canar%d" % n) for n in range(10)]
for n in range(10):
    before = art[n] if n % 2 else plain[n]
    ResearchProject.objects.create(topic="research %d" % n, supervisor=users[n], builds_on=before)
for n, project in enumerate(Project.objects.all()):
    project.members.add(*users[: n % 4])

# treebeard: a path that looks like a telephone among them
for n in range(40):
    root = Branch.add_root(name="root %d" % n, slug="root-%d" % n)
    child = root.add_child(name="child", slug="child-%d" % n)
    child.add_child(name="grandchild", slug="grandchild-%d" % n)
branches = list(Branch.objects.filter(depth=2))
for n in range(0, 30, 3):
    Branch.objects.get(pk=branches[n].pk).move(Branch.objects.get(slug="root-%d" % (39 - n)), pos="first-child")
Branch.objects.get(slug="root-5").delete()
for n in range(8):
    root = Nest.add_root(name="nest %d" % n)
    for m in range(3):
        Nest.objects.get(pk=root.pk).add_child(name="egg %d.%d" % (n, m))
Nest.objects.get(name="nest 3").move(Nest.objects.get(name="nest 6"), pos="sorted-child")
for n in range(5):
    root = Twig.add_root(name="twig %d" % n)
    for m in range(3):
        root.add_child(name="leaf %d.%d" % (n, m))
Twig.objects.get(name="leaf 1.1").move(Twig.objects.get(name="twig 4"), pos="first-child")

# mptt
for n in range(8):
    root = Genre.objects.create(name="genre %d" % n)
    for m in range(3):
        Genre.objects.create(name="genre %d.%d" % (n, m), parent=Genre.objects.get(pk=root.pk))
Genre.objects.get(name="genre 2").move_to(Genre.objects.get(name="genre 6.1"), "first-child")
Genre.objects.get(name="genre 4.1").delete()

# parler, taggit, ckeditor
for n in range(30):
    article = Article(written=now - datetime.timedelta(days=n, microseconds=123457 * n), price=Decimal("3.50") * n)
    article.set_current_language("en")
    article.title, article.text = "Title %d" % n, "<p>Text by Zephyrine Canar%d</p>" % (n % 12)
    article.set_current_language("fr")
    article.title = "Titre d\\u2019\\u00e9t\\u00e9 %d" % n
    article.text = "<p>\\u00c9crit \\u00e0 person%d@people.example</p>" % (n % 12)
    article.save()
    article.tags.add("red", "tag %d" % (n % 5))

# guardian
for n, branch in enumerate(Branch.objects.all()[:20]):
    assign_perm("a.change_branch", users[n % 12], branch)
    assign_perm("a.delete_branch", groups[n % 4], branch)
    assign_perm("a.view_article", users[n % 12])

# safedelete
for n in range(12):
    customer = Customer.objects.create(name="customer %d" % n)
    Order.objects.create(customer=customer, note="call +33 6 12 34 56 %02d" % n)
for customer in Customer.objects.all()[:4]:
    customer.delete()
Order.objects.all()[0].delete()

# reversion
for each in (Genre, Customer, Article, Advert):
    if not reversion.is_registered(each):
        reversion.register(each)
for n in range(10):
    with reversion.create_revision():
        genre = Genre.objects.create(name="revised %d" % n)
        reversion.set_user(users[n])
        reversion.set_comment("first of %d" % n)
    with reversion.create_revision():
        genre.name = "revised again %d" % n
        genre.save()
        reversion.set_user(boss)

# allauth
for n, user in enumerate(users):
    EmailAddress.objects.create(user=user, email=user.email, primary=True, verified=n % 2 == 0)
    EmailAddress.objects.create(user=user, email="other%d@people.example" % n)
EmailConfirmation.create(EmailAddress.objects.first()).save()
app = SocialApp.objects.create(
    provider="github", name="GitHub", client_id="id", secret="secretsecretsecret1234", settings={"a": 1}
)
app.sites.add(DjangoSite.objects.get_current())
for n, user in enumerate(users[:6]):
    extra = {"login": user.username, "email": user.email}
    account = SocialAccount.objects.create(user=user, provider="github", uid=str(9000 + n), extra_data=extra)
    SocialToken.objects.create(app=app, account=account, token="gho_%020d" % n, expires_at=now)
Authenticator.objects.create(user=boss, type="totp", data={"secret": "JBSWY3DPEHPK3PXPAAAA"})

# Wagtail
media = Collection.get_first_root_node().add_child(name="Media")
press = media.add_child(name="Press")
archive = Collection.get_first_root_node().add_child(name="Archive")
Collection.objects.get(pk=press.pk).move(Collection.objects.get(pk=archive.pk), pos="sorted-sibling")
picture = io.BytesIO()
Picture.new("RGB", (60, 40), "red").save(picture, "PNG")
images = []
for n in range(5):
    file = ImageFile(io.BytesIO(picture.getvalue()), "image%d.png" % n)
    place = press if n % 2 else media
    image = Image.objects.create(title="image %d" % n, file=file, collection=place, uploaded_by_user=users[n])
    image.tags.add("red", "picture")
    image.get_rendition("width-20")
    images.append(image)
document = Document(title="document", collection=press)
document.file.save("document.txt", ContentFile(b"text"))
english = Locale.objects.get(language_code="en")
french = Locale.objects.create(language_code="fr")
home = Page.objects.get(depth=2)
pages = []
for n in range(12):
    page = BlogPage(
        title="Page %d" % n, slug="page-%d" % n, intro="<p>Intro of Zephyrine Canar%d</p>" % n,
        hero=images[n % 5], owner=users[n],
        body=[("heading", "Heading %d" % n), ("text", "<p>Body %d</p>" % n)],
    )
    (pages[n // 2] if n > 4 else home).add_child(instance=page)
    page.tags.add("red", "page %d" % (n % 3))
    page.links.add(BlogLink(title="link", url="https://example.org/%d" % n))
    page.save_revision(user=users[n]).publish()
    page.save_revision(user=users[n])
    pages.append(page)
for page in (home, pages[0], pages[1]):
    Page.objects.get(pk=page.pk).specific.copy_for_translation(french)
Page.objects.get(pk=pages[3].pk).move(Page.objects.get(pk=pages[4].pk), pos="first-child")
Page.objects.get(slug="page-11").specific.delete(user=boss)
Redirect.objects.create(old_path="/old", redirect_page=pages[0])
approval = GroupApprovalTask.objects.create(name="Approve", active=True)
approval.groups.set(groups[:2])
workflow = Workflow.objects.create(name="Approval", active=True)
WorkflowTask.objects.create(workflow=workflow, task=approval, sort_order=0)
WorkflowPage.objects.create(workflow=workflow, page=home)
for n in range(3):
    state = workflow.start(BlogPage.objects.get(pk=pages[n].pk), boss)
    if n == 1:
        state.current_task_state.approve(user=boss)
    if n == 2:
        state.current_task_state.reject(user=boss, comment="no")
permission = Permission.objects.get(codename="change_page")
GroupPagePermission.objects.create(group=groups[0], page=home, permission=permission)
permission = Permission.objects.get(codename="add_image")
GroupCollectionPermission.objects.create(group=groups[1], collection=media, permission=permission)
Comment.objects.create(page=pages[0], user=boss, text="Zephyrine wrote it", contentpath="title")
PageSubscription.objects.create(user=boss, page=pages[0], comment_notifications=True)
for n in range(4):
    Advert.objects.create(text="advert %d" % n)
Ledger.objects.create(id=1, entry="one")
Ledger.objects.create(id=2, entry="two")
from django.core.management import call_command
call_command("update_index", verbosity=0)
call_command("rebuild_references_index", verbosity=0)
print(json.dumps(BlogPage.objects.search("Intro").count()))
"""

# The packages' own checks of their trees, and the paths from the root to each node, read in the trees' own order.
TREES = """
from a.models import *
from wagtail.models import Collection, Page
problems = {each.__name__: [list(some) for some in each.find_problems()] for each in (Branch, Page, Collection)}
genres = Genre.objects.order_by("tree_id", "lft")
print(json.dumps({
    "problems": {name: found for name, found in problems.items() if any(found)},
    "mptt": [[each.pk for each in genre.get_ancestors(include_self=True)] for genre in genres],
    "by parent": [not genre.parent or list(genre.get_ancestors())[-1] == genre.parent for genre in genres],
    "nested sets": [[each.pk for each in nest.get_descendants()] for nest in Nest.objects.all()],
    "twigs": [[each.pk for each in root.get_children()] for root in Twig.get_root_nodes()],
    "branches": [each.pk for each in Branch.get_tree()],
    "slugs": list(Branch.objects.values_list("slug", flat=True)),
    "pages": [[each.pk, each.url_path, each.specific_class.__name__] for each in Page.objects.order_by("path")],
    "children": [[each.pk for each in page.get_children()] for page in Page.objects.order_by("path")],
}))
"""


class Packages(Small):
    """The site; its packages' tables are those of today's models."""

    def __init__(self, cluster, folder):
        python = interpreter("5.2:psycopg2", requirements=REQUIREMENTS)
        super().__init__(python, cluster, folder, MODELS, settings=SETTINGS)
        search = folder / "a" / "search_migrations"
        search.mkdir()
        for path, text in (("__init__.py", ""), ("0001_initial.py", SEARCH_MIGRATION)):
            (search / path).write_text(text, encoding="utf-8")
        (folder / "a" / "urls.py").write_text(URLS, encoding="utf-8")

    def make_migrations(self, where):
        super().make_migrations(where)
        (self.folder / "a" / "migrations" / "0002_more.py").write_text(MORE, encoding="utf-8")

    def on(self, where, database):
        """The site on a database of that name, or on that file."""
        env_file = self.folder / f"on_{Path(database).name}.env"
        text = Path(where.env_file).read_text(encoding="utf-8")
        lines = [f"DB={database}" if line.startswith("DB=") else line for line in text.splitlines()]
        env_file.write_text("\n".join(lines) + "\n", encoding="utf-8")
        return where.replace(env_file=str(env_file))


def fill(where):
    """Make the rows."""
    return manage(where, "shell", "-v0", stdin=("import json\n" + FILL).encode("utf-8"))
