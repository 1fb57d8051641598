"""A Celery worker that classifies irises: the models are opened in each of its processes, after the fork.

    celery -A examples.celery_task worker --concurrency 2 --loglevel INFO
    python -m examples.celery_task 5.1 3.5 1.4 0.2

Messages and results go through files in ``build/celery`` as long as ``CELERY_BROKER_URL`` and
``CELERY_RESULT_BACKEND`` name no Redis or RabbitMQ.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

from celery import Celery, signals
from celery.utils.log import get_logger

import infersdk
from infersdk.predictors import Predictors

FOLDER = Path(os.environ.get("CELERY_FOLDER", "build/celery")).resolve()
FIELDS = ("sepal length (cm)", "sepal width (cm)", "petal length (cm)", "petal width (cm)")

app = Celery(
    "irises",
    broker=os.environ.get("CELERY_BROKER_URL", "filesystem://"),
    backend=os.environ.get("CELERY_RESULT_BACKEND", f"file://{FOLDER}/results"),
)
if app.conf.broker_url == "filesystem://":
    for name in ("messages", "control", "results"):
        (FOLDER / name).mkdir(parents=True, exist_ok=True)
    app.conf.broker_transport_options = {
        "data_folder_in": str(FOLDER / "messages"),
        "data_folder_out": str(FOLDER / "messages"),
        "control_folder": str(FOLDER / "control"),
    }

logger = get_logger(__name__)
models = Predictors({"iris": FOLDER / "iris.onnx"})


@app.task(
    name="irises.classify",
    throws=(infersdk.InputError,),  # the sender's mistake: no traceback in the worker's log
    autoretry_for=(infersdk.OverloadedError, infersdk.DeadlineError),
    retry_backoff=True,
    max_retries=5,
)
def classify(rows: list[dict[str, float]]) -> list[str]:
    """Name the kind of each iris. A row that does not fit fails the task with its field and row."""
    answers: list[str] = models["iris"].predict(rows).tolist()
    return answers


@signals.worker_init.connect
def prepare(**_: Any) -> None:
    """Make the model's file, in the parent, before there are workers. Yours comes from its training."""
    if not (FOLDER / "iris.onnx").exists():
        from sklearn.datasets import load_iris
        from sklearn.linear_model import LogisticRegression

        flowers = load_iris(as_frame=True)
        kinds = flowers.target_names[flowers.target]
        model = LogisticRegression(max_iter=500).fit(flowers.data, kinds)
        infersdk.convert(model, example=flowers.data, name="iris").save(FOLDER / "iris.onnx")


@signals.worker_process_init.connect
def open_models(**_: Any) -> None:
    """Open and warm the models up: a process that cannot is not given any task."""
    models.open()
    logger.info("process %d: models open", os.getpid())


@signals.worker_process_shutdown.connect
def close_models(**_: Any) -> None:
    models.close()
    logger.info("process %d: models closed", os.getpid())


if __name__ == "__main__":
    measures = [float(number) for number in sys.argv[1:]]
    if len(measures) != len(FIELDS):
        sys.exit(f"Expected the numbers {', '.join(FIELDS)}, got {sys.argv[1:]}")
    print(classify.delay([dict(zip(FIELDS, measures, strict=True))]).get(timeout=60))
