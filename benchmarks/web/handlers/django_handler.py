"""A Django view around a pipeline: a project in one file."""

import json
import os
from pathlib import Path

import joblib
import pandas as pd
from django.conf import settings
from django.core.wsgi import get_wsgi_application
from django.http import JsonResponse
from django.urls import path
from django.views.decorators.csrf import csrf_exempt

import infersdk

settings.configure(SECRET_KEY="for this benchmark", ROOT_URLCONF=__name__, ALLOWED_HOSTS=["*"])
pipeline = joblib.load(Path(os.environ["MODELS"]) / "pipeline.joblib")
CLASSES = ["stays", "leaves"]


@csrf_exempt
@infersdk.accelerate
def predict(request):
    payload = json.loads(request.body)
    if not isinstance(payload, dict):
        return JsonResponse({"error": "expected one customer, a JSON object"}, status=400)
    row = pd.DataFrame([payload])
    probabilities = pipeline.predict_proba(row)[0].tolist()
    best = max(range(len(CLASSES)), key=probabilities.__getitem__)
    return JsonResponse(
        {
            "answer": CLASSES[best],
            "probability": probabilities[best],
            "all": dict(zip(CLASSES, probabilities, strict=True)),
        }
    )


urlpatterns = [path("predict", predict)]
app = get_wsgi_application()
