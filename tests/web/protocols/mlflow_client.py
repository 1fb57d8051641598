"""Runs in an environment of its own that has MLflow: asks its scoring server's code, and a real server by its client.

python mlflow_client.py model.json payloads.json          what MLflow itself answers to each payload
python mlflow_client.py --client 127.0.0.1:8080 rows.json what its client gets from a server
"""

from __future__ import annotations

import base64
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from mlflow.exceptions import MlflowException
from mlflow.models.utils import _enforce_schema
from mlflow.pyfunc import scoring_server
from mlflow.pyfunc.scoring_server.client import ScoringServerClient
from mlflow.types.schema import ColSpec, Schema


class Linear:
    """A linear classifier of named columns, as a pyfunc model: it enforces its schema, then predicts."""

    def __init__(self, names: list[str], coefficients: Any, intercepts: Any) -> None:
        self.schema = Schema([ColSpec("double", name) for name in names])
        self.coefficients = np.array(coefficients)
        self.intercepts = np.array(intercepts)
        self.metadata = None

    def predict(self, data: Any, params: Any = None) -> Any:
        frame = _enforce_schema(data, self.schema)
        scores = frame.to_numpy() @ self.coefficients.T + self.intercepts
        return scores.argmax(axis=1)


def ask_mlflow(model_path: str, payloads_path: str) -> list[Any]:
    """Status and predictions of each payload."""
    model = Linear(**json.loads(Path(model_path).read_text()))
    answers = []
    for payload in json.loads(Path(payloads_path).read_text()):
        body = base64.b64decode(payload["body"])
        try:
            reply = scoring_server.invocations(body, payload["content_type"], model, model.schema)
        except MlflowException as error:
            content = json.loads(error.serialize_as_json())
            answers.append([error.get_http_status_code(), content["error_code"]])
        else:
            is_json = reply.mimetype == "application/json"
            content = json.loads(reply.response)["predictions"] if is_json else None
            answers.append([reply.status, content])
    return answers


def ask_server(address: str, rows_path: str) -> dict[str, Any]:
    """What MLflow's client makes of a server's answers."""
    host, _, port = address.partition(":")
    client = ScoringServerClient(host, int(port))
    client.ping()
    frame = pd.DataFrame(json.loads(Path(rows_path).read_text()))

    def asked(data: Any, params: Any = None) -> Any:
        predictions = client.invoke(data, params=params).get_predictions()
        return predictions.to_numpy().tolist()

    answers = {
        "version": client.get_version(),
        "frame": asked(frame),
        "array": asked(frame.to_numpy()),
        "list": asked(frame.to_numpy().tolist()),
        "probabilities": asked(frame, {"predict_method": "predict_proba"}),
    }
    try:
        client.invoke(frame.drop(columns=frame.columns[0]))
    except Exception as error:
        answers["refusal"] = str(error)
    return answers


if __name__ == "__main__":
    arguments = sys.argv[1:]
    found = ask_server(*arguments[1:]) if arguments[0] == "--client" else ask_mlflow(*arguments)
    sys.stdout.write(json.dumps(found))
