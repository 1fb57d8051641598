"""Routes of the tests' project: the models' own, views that call them, and REST framework views."""

from __future__ import annotations

import json
import os
import threading
from pathlib import Path

from django.db import transaction
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.urls import include, path
from django.views.decorators.csrf import csrf_exempt
from rest_framework.throttling import SimpleRateThrottle

from infersdk.predictors import current_predictors
from infersdk.web.django import conf
from infersdk.web.django.drf import PredictView
from infersdk.web.django.views import aanswer, answer


@csrf_exempt
def own(request: HttpRequest) -> HttpResponse:
    return answer(request, "iris", "predict_proba")


@csrf_exempt
@transaction.non_atomic_requests
async def async_own(request: HttpRequest) -> HttpResponse:
    return await aanswer(request, "iris", "predict_proba")


@csrf_exempt
def by_hand(request: HttpRequest) -> HttpResponse:
    rows = json.loads(request.body)
    return JsonResponse({"answers": current_predictors["iris"].predict(rows).tolist()})


@csrf_exempt
@transaction.non_atomic_requests
async def async_by_hand(request: HttpRequest) -> HttpResponse:
    rows = json.loads(request.body)
    answers = await current_predictors["iris"].apredict(rows)
    return JsonResponse({"answers": answers.tolist()})


@csrf_exempt
def broken(request: HttpRequest) -> HttpResponse:
    raise ZeroDivisionError("a secret")


def process(request: HttpRequest) -> HttpResponse:
    """What this process is like: its models' state was looked at before anything asked for one."""
    state = conf.service().predictors.state
    return JsonResponse({"pid": os.getpid(), "state": state, "threads": threading.active_count()})


@csrf_exempt
def begun(request: HttpRequest) -> HttpResponse:
    """Say that the request is being answered; its body may not be there yet."""
    Path(os.environ["BEGUN"]).touch()
    return answer(request, "iris")


class Iris(PredictView):
    """Asks the model for probabilities."""

    model_name = "iris"
    method = "predict_proba"


class Seldom(SimpleRateThrottle):
    """One request a day."""

    rate = "1/day"
    scope = "seldom"

    def get_cache_key(self, request: object, view: object) -> str:
        return "seldom"


class Throttled(PredictView):
    """Asks for the model's main method, once."""

    model_name = "iris"
    throttle_classes = (Seldom,)


urlpatterns = [
    path("models/", include("infersdk.web.django.urls")),
    path("own", own),
    path("async_own", async_own),
    path("by_hand", by_hand),
    path("async_by_hand", async_by_hand),
    path("broken", broken),
    path("process", process),
    path("begun", begun),
    path("drf/iris", Iris.as_view()),
    path("drf/throttled", Throttled.as_view()),
]
