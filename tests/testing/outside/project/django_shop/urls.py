from django.urls import include, path

from django_shop import views

urlpatterns = [
    path("models/", include("infersdk.web.django.urls")),
    path("offers", views.offers),
    path("score", views.score),
]
