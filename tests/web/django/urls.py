"""Routes of the tests' project: the models' own, views that call them, and a REST framework view."""

from __future__ import annotations

import json

from django.http import HttpRequest, HttpResponse, JsonResponse
from django.urls import include, path
from django.views.decorators.csrf import csrf_exempt

from infersdk.predictors import current_predictors
from infersdk.web.django.views import aanswer, answer


@csrf_exempt
def own(request: HttpRequest) -> HttpResponse:
    return answer(request, "iris", "predict_proba")


@csrf_exempt
async def async_own(request: HttpRequest) -> HttpResponse:
    return await aanswer(request, "iris", "predict_proba")


@csrf_exempt
def by_hand(request: HttpRequest) -> HttpResponse:
    rows = json.loads(request.body)
    return JsonResponse({"classes": current_predictors["iris"].predict(rows).tolist()})


@csrf_exempt
async def async_by_hand(request: HttpRequest) -> HttpResponse:
    rows = json.loads(request.body)
    classes = await current_predictors["iris"].apredict(rows)
    return JsonResponse({"classes": classes.tolist()})


def failing(request: HttpRequest) -> HttpResponse:
    raise ZeroDivisionError


urlpatterns = [
    path("models/", include("infersdk.web.django.urls")),
    path("own", own),
    path("async_own", async_own),
    path("by_hand", by_hand),
    path("async_by_hand", async_by_hand),
    path("failing", failing),
]
