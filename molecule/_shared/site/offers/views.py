from django.http import HttpResponse
from django.shortcuts import get_object_or_404, render

from offers.models import Offer
from pages.models import Article


def home(request):
    latest = Offer.objects.select_related("contract").order_by("-published", "pk")[:20]
    return render(request, "home.html", {"count": Offer.objects.count(), "offers": latest})


def offer(request, pk):
    return render(request, "offer.html", {"offer": get_object_or_404(Offer, pk=pk)})


def article(request, slug):
    return HttpResponse(get_object_or_404(Article, slug=slug, published=True).body)
