import json

from django.http import JsonResponse

from infersdk import current_predictors
from infersdk.web.django.views import aanswer


def offers(request):
    customers = json.loads(request.body)
    leaves = current_predictors["churn"].predict(customers) == "leaves"
    chosen = [customer for customer, gone in zip(customers, leaves, strict=True) if gone]
    return JsonResponse({"offers": chosen})


async def score(request):
    return await aanswer(request, "churn", "predict_proba")
