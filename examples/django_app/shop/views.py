"""The project's views: a page, an async API, a REST framework API."""

from __future__ import annotations

from django import forms
from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.views.decorators.csrf import csrf_exempt
from django.views.decorators.http import require_POST

from infersdk.predictors import current_predictors
from infersdk.web.django.drf import PredictView
from infersdk.web.django.views import aanswer


class CustomerForm(forms.Form):
    """What the staff knows of a customer."""

    plan = forms.ChoiceField(choices=[(plan, plan) for plan in ("basic", "silver", "gold")])
    months = forms.IntegerField(min_value=0)
    calls = forms.IntegerField(min_value=0)
    spent = forms.FloatField(min_value=0)


def customer(request: HttpRequest) -> HttpResponse:
    """Ask the model about a customer in a form."""
    form = CustomerForm(request.POST or None)
    risk = None
    if form.is_valid():
        # A form's cleaned data are a row. The classes are "leaves" and "stays", in that order.
        risk = current_predictors["churn"].predict_proba(form.cleaned_data)[0, 0]
    return render(request, "customer.html", {"form": form, "risk": risk})


@csrf_exempt
@require_POST
async def risk(request: HttpRequest) -> HttpResponse:
    """Answer JSON rows with probabilities; cancelled when the client goes away."""
    return await aanswer(request, "churn", "predict_proba")


class ChurnView(PredictView):
    """The same with REST framework's own permissions, throttles and errors."""

    model_name = "churn"
