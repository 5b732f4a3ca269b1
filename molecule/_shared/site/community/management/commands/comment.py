"""Fill the application with invented rows: one comment an offer, a tree, works of two kinds."""

from django.contrib.auth.models import User
from django.contrib.contenttypes.models import ContentType
from django.core.management.base import BaseCommand
from django.db import transaction
from django.utils import timezone

from community.models import Branch, Comment, Map, Work
from offers.models import Offer


class Command(BaseCommand):
    help = "Fill the application with invented content."

    @transaction.atomic
    def handle(self, *args, **options):
        users = list(User.objects.order_by("pk"))
        now = timezone.now().replace(microsecond=0)
        offers = list(Offer.objects.values_list("pk", flat=True).order_by("pk"))
        comments = [
            Comment(
                pk=number,
                author=users[number % len(users)],
                offer_id=number,
                text=f"Bonjour {users[number % len(users)].first_name}, appelez {users[0].get_full_name()} demain.",
                tags=["carte", f"n°{number}", 'dit "oui"'],
                email=f"Membre.{number}@Example.org",
                removed=now if number % 10 == 0 else None,
            )
            for number in offers
        ]
        Comment.every.bulk_create(comments, batch_size=500)
        through = Comment.liked_by.through
        pairs = [
            through(comment_id=number, user_id=users[place].pk)
            for number in offers
            for place in {number % 7, number % 3}
        ]
        through.objects.bulk_create(pairs, batch_size=500)
        Branch.objects.bulk_create(
            Branch(path=f"{number:04d}{child}", depth=2 if child else 1, numchild=0 if child else 1, name=f"n°{number}")
            for number in range(1, 200)
            for child in ("", "0001")
        )
        kinds = [ContentType.objects.get_for_model(each) for each in (Work, Map)]
        for number in range(1, 300):
            values = {"kind": kinds[number % 2], "topic": f"Œuvre {number}"}
            if number % 2:
                Map.objects.create(cartographer=users[number % len(users)].get_full_name(), **values)
            else:
                Work.objects.create(**values)
