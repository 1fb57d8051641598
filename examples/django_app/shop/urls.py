"""The project's routes."""

from __future__ import annotations

from django.urls import include, path

from .views import ChurnView, customer, risk

urlpatterns = [
    path("", customer),
    path("api/risk", risk),
    path("api/churn", ChurnView.as_view()),
    path("models/", include("infersdk.web.django.urls")),
]
