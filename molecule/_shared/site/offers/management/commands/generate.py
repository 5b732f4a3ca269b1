"""Fill the site with invented French content: any size, the same for the same seed.

No word of it comes from real offers or real people; names and towns are put together from syllables.
"""

import datetime
import decimal
import random
import uuid

from django.contrib.auth.models import Group, Permission, User
from django.contrib.sessions.models import Session
from django.contrib.sites.models import Site
from django.core.management.base import BaseCommand
from django.core.management.color import no_style
from django.db import connection, transaction

from offers.models import Offer, RawOffer
from pages.models import Article, ArticleKeyword, Banner, Event, Keyword, Section
from people.models import Profile, Subscription
from reference.models import (
    Contract,
    ContractVariation,
    Place,
    PlaceVariation,
    Source,
    Technology,
    TechnologyVariation,
    Trade,
    TradeVariation,
)
from territories.models import Town

START = datetime.datetime(2015, 3, 1, 6, 30, 12, 345678, tzinfo=datetime.timezone.utc)
SYLLABLES = """
bel cha dor é fon gar ha ju lan mar né or pré què ra sau tré ur vil zé mont lac bois clair
"""
WORDS = """
carte relevé équipe littoral réseau données région analyse mission parcelle modèle tableau terrain
projet métier étude façade forêt hydrologie cœur où déjà très être œuvre garçon naïf île Noël aiguë
cadastre altitude serveur calcul élève ingénieur géomètre atelier suivi qualité échelle
"""
CONTRACTS = ["CDI", "CDD", "Stage", "Alternance", "Intérim", "Thèse", "Mission", "Autre"]
TRADES = [
    "Cartographe",
    "Géomètre",
    "Développeuse",
    "Chargé d'études",
    "Technicienne",
    "Ingénieur données",
    "Formateur",
]
KINDS = ["LOGICIEL", "LANGAGE", "BASE", "FORMAT"]


class Invented:
    """A stream of invented things, the same for the same seed."""

    def __init__(self, seed):
        self.random = random.Random(seed)
        self.syllables = SYLLABLES.split()
        self.words = WORDS.split()
        self.paragraphs = [" ".join(self.random.choices(self.words, k=60)).capitalize() + "." for _ in range(200)]

    def name(self, parts=3):
        return "".join(self.random.choices(self.syllables, k=parts)).capitalize()

    def person(self):
        return self.name(2), self.name(3)

    def moment(self, number):
        """A moment with microseconds, in the order of the numbers."""
        return START + datetime.timedelta(minutes=7 * number, microseconds=self.random.randrange(10**6))

    def phone(self):
        return "01 99 00 " + " ".join(f"{self.random.randrange(100):02d}" for _ in range(2))

    def text(self, length):
        lines = []
        size = 0
        while size < length:
            line = self.random.choice(self.paragraphs)
            lines.append(line)
            size += len(line) + 2
        return "\r\n".join(lines)[:length]


class Command(BaseCommand):
    help = "Fill the empty site with invented content."

    def add_arguments(self, parser):
        parser.add_argument("--offers", type=int, default=200)
        parser.add_argument("--first", type=int, default=1, help="the first offer's number: later ones are added")
        parser.add_argument("--length", type=int, default=3100, help="characters of a text")
        parser.add_argument("--users", type=int, default=30)
        parser.add_argument("--seed", type=int, default=1)
        parser.add_argument("--canary", default="Zéphyrine Canaribel", help="a person that masking must hide")

    @transaction.atomic
    def handle(self, *args, **options):
        invented = Invented(options["seed"] + options["first"])
        if options["first"] == 1:
            self.reference(invented)
            self.people(invented, options["users"], options["canary"])
            self.pages(invented)
        self.offers(invented, options)
        # What Django sets by the clock is set back, so that the same seed gives the same data.
        for model in (Contract, Trade, Place, Source, Technology, Offer):
            model.objects.update(created=START, updated=START)
        RawOffer.objects.update(created=START)
        Article.objects.update(updated=START)
        Subscription.objects.update(subscribed=START)

    def reference(self, invented):
        Site.objects.update_or_create(pk=1, defaults={"domain": "cap.example.org", "name": "Cap Cartes"})
        Contract.objects.bulk_create(Contract(code=code, title=f"Contrat « {code} »", comment="") for code in CONTRACTS)
        ContractVariation.objects.bulk_create(
            ContractVariation(contract_id=code, label=label)
            for code in CONTRACTS
            for label in (code.lower(), f"en {code.lower()}")
        )
        Trade.objects.bulk_create(Trade(name=name, comment="") for name in TRADES)
        TradeVariation.objects.bulk_create(TradeVariation(trade_id=name, label=name.upper()) for name in TRADES)
        places = {}
        while len(places) < 120:
            places.setdefault(invented.name(), None)
        Place.objects.bulk_create(
            Place(name=name, code=f"{number:03d}", scale=Place.SCALES[number % 4][0], inhabitants=number * 137)
            for number, name in enumerate(places)
        )
        PlaceVariation.objects.bulk_create(PlaceVariation(place_id=name, label=name.upper()) for name in places)
        Town.objects.bulk_create(
            Town(
                name=name,
                place_id=name,
                location=f"SRID=4326;POINT ({2 + number / 128!r} {44 + number / 64!r})",
                surface=number * 1.1,
            )
            for number, name in enumerate(places)
        )
        Source.objects.bulk_create(
            Source(name=name, url=f"https://{name.lower()}.example.org/?a=1&b=é", comment="Flux « RSS »\r\net archives")
            for name in ("FLUX", "ARCHIVE", "MANUEL")
        )
        technologies = {}
        while len(technologies) < 60:
            technologies.setdefault(invented.name(2), None)
        Technology.objects.bulk_create(
            Technology(name=name, kind=KINDS[number % 4], license="LIBRE" if number % 3 else "INCONNUE")
            for number, name in enumerate(technologies)
        )
        TechnologyVariation.objects.bulk_create(
            TechnologyVariation(technology=technology, label=technology.name.lower())
            for technology in Technology.objects.all()
        )

    def people(self, invented, number, canary):
        editors = Group.objects.create(name="Rédactrices")
        readers = Group.objects.create(name="Lecteurs")
        editors.permissions.set(
            Permission.objects.filter(content_type__app_label__in=["pages", "reference"]).exclude(
                codename__startswith="delete"
            )
        )
        readers.permissions.set(Permission.objects.filter(codename="view_offer"))
        first, last = canary.split(" ", 1)
        everyone = [(first, last)] + [invented.person() for _ in range(number - 1)]
        for rank, (first, last) in enumerate(everyone, start=1):
            user = User(
                username=f"{last.lower()}.{rank}",
                first_name=first,
                last_name=last,
                email=f"{last.lower()}.{rank}@people.example.org",
                is_staff=rank < 4,
                is_superuser=rank == 1,
                last_login=invented.moment(rank),
                date_joined=START,
            )
            # One round of hashing: there are no secrets here, and a thousand users are made at once.
            user.password = "pbkdf2_sha256$1$c2Vs$" + f"{invented.random.getrandbits(170):043x}="
            user.save()
            user.groups.set([editors, readers] if rank % 2 else [readers])
            if rank % 5 == 0:
                user.user_permissions.set(Permission.objects.filter(codename__in=["add_offer", "view_session"]))
            profile = Profile.objects.create(
                user=user,
                phone=invented.phone(),
                birth_date=datetime.date(1960 + rank % 45, 1 + rank % 12, 1 + rank % 28),
                street_address=f"{rank} rue {first} {last}",
                postcode=f"{invented.random.randrange(10**5):05d}",
                api_token=f"{invented.random.getrandbits(160):040x}",
                last_ip=f"192.0.2.{rank % 250}",
            )
            Subscription.objects.create(
                email=user.email, first_name=first, confirmed=bool(rank % 2), profile=profile if rank % 3 else None
            )
            Session.objects.create(
                session_key=f"{invented.random.getrandbits(128):032x}",
                session_data=f"{first}:{rank}",
                expire_date=invented.moment(rank),
            )

    def pages(self, invented):
        top = Section.objects.create(title="Vie du site")
        below = Section.objects.create(title="Actualités", parent=top)
        words = [Keyword.objects.create(word=word) for word in invented.words[:12]]
        authors = list(User.objects.order_by("pk")[:3])
        for rank in range(1, 13):
            article = Article.objects.create(
                slug=f"page-{rank}",
                title=invented.name(4),
                body=f"<p>{invented.text(400)}</p>",
                section=below if rank % 2 else top,
                author=authors[rank % len(authors)],
                picture=f"articles/{rank}.png" if rank % 3 == 0 else "",
                published=True,
                reading_time=rank,
                opens_at=datetime.time(9, rank, 0, 1000 * rank) if rank % 2 else None,
            )
            ArticleKeyword.objects.bulk_create(
                ArticleKeyword(article=article, keyword=word, position=position)
                for position, word in enumerate(invented.random.sample(words, 3))
            )
        for rank in range(1, 4):
            Event.objects.create(
                slug=f"rencontre-{rank}",
                title=invented.name(4),
                body="<p>Rencontre</p>",
                section=top,
                author=authors[0],
                published=True,
                starts=invented.moment(rank * 1000),
                room="Salle « Île »",
            )
        for rank in range(1, 4):
            Banner.objects.create(text=f"Bannière N° {rank}")

    def offers(self, invented, options):
        places = list(Place.objects.values_list("pk", flat=True).order_by("pk"))
        technologies = list(Technology.objects.values_list("pk", flat=True).order_by("pk"))
        sources = list(Source.objects.values_list("pk", flat=True).order_by("pk"))
        first, last = options["first"], options["first"] + options["offers"]
        for start in range(first, last, 500):
            self.batch(invented, range(start, min(start + 500, last)), options, places, technologies, sources)
        self.renumber()

    def batch(self, invented, numbers, options, places, technologies, sources):
        choose = invented.random
        raws, offers = [], []
        offer_places, offer_technologies = [], []
        for number in numbers:
            value, family = options["canary"].split(" ", 1) if number % 97 == 1 else invented.person()
            text = invented.text(options["length"])
            moment = invented.moment(number)
            email = f"{family.lower()}@recrute.example.org"
            title = f"{choose.choice(TRADES)} à {choose.choice(places)} (H/F) n°{number}"
            raws.append(
                RawOffer(
                    pk=number,
                    guid=f"{choose.getrandbits(128):032x}",
                    source_id=choose.choice(sources),
                    title=title,
                    content=f'<p>{text}</p>\r\n\t<a href="mailto:{email}">{value} {family}</a> \\o/',
                    payload={"région": choose.choice(places), "n": number, "tags": ["a", None, 1.5], "vide": {}},
                    received=moment,
                )
            )
            offers.append(
                Offer(
                    pk=number,
                    raw_id=number,
                    reference=uuid.UUID(int=choose.getrandbits(128)),
                    title=title,
                    body=text,
                    contract_id=choose.choice(CONTRACTS),
                    trade_id=choose.choice(TRADES) if number % 4 else None,
                    published=moment.replace(microsecond=0) if number % 2 else moment,
                    week=moment.date(),
                    salary=decimal.Decimal(choose.randrange(1_500_000, 6_000_000)) / 100 if number % 3 else None,
                    experience=datetime.timedelta(days=number % 900, seconds=number) if number % 2 else None,
                    score=choose.random(),
                    views=choose.randrange(5000),
                    remote=number % 5 == 0,
                    contact_name=f"{value} {family}",
                    contact_email=email,
                    contact_phone=invented.phone(),
                    posted_from=f"198.51.100.{number % 250}" if number % 2 else None,
                )
            )
            offer_places += [(number, place) for place in choose.sample(places, 2)]
            offer_technologies += [(number, technology) for technology in choose.sample(technologies, 4)]
        RawOffer.objects.bulk_create(raws)
        Offer.objects.bulk_create(offers)
        through = Offer.places.through
        through.objects.bulk_create(through(offer_id=offer, place_id=place) for offer, place in offer_places)
        through = Offer.technologies.through
        through.objects.bulk_create(
            through(offer_id=offer, technology_id=technology) for offer, technology in offer_technologies
        )

    def renumber(self):
        """Offers carry their own numbers, so the sequences are set behind them."""
        with connection.cursor() as cursor:
            for statement in connection.ops.sequence_reset_sql(no_style(), [RawOffer, Offer]):
                cursor.execute(statement)
