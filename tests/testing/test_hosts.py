"""Fakes and the held clock in an app of asyncio; Flask and Django are in the outside project."""

from __future__ import annotations

import threading
from typing import Any

import pytest


@pytest.fixture
def api() -> Any:
    fastapi = pytest.importorskip("fastapi")
    pytest.importorskip("httpx")
    from infersdk.web.fastapi import InferSDK

    app = fastapi.FastAPI()
    InferSDK(app, models={"churn": "no/such/file.onnx"}, url_prefix="/models", timeout_s=5)
    return app


def test_fastapi(api: Any, use_predictor: Any, fake_predictor: Any) -> None:
    from fastapi.testclient import TestClient

    churn = use_predictor("churn", fake_predictor("leaves", fields=["age"]))
    with TestClient(api) as client:
        assert client.post("/models/churn", json={"age": 36}).json() == {"answers": ["leaves"]}
        assert client.post("/models/churn", json={"age": "old"}).status_code == 422
    assert churn.calls[0].task
    assert [call.n_rows for call in churn.calls] == [1, 1]


def test_a_busy_model_in_fastapi(
    api: Any, use_predictor: Any, fake_predictor: Any, infersdk_clock: Any
) -> None:
    from fastapi.testclient import TestClient

    churn = use_predictor("churn", fake_predictor("leaves"))

    def let_time_pass() -> None:
        churn.wait_for_queued()
        infersdk_clock.advance(5)

    time_passes = threading.Thread(target=let_time_pass)
    with TestClient(api) as client, churn.busy():
        time_passes.start()
        assert client.post("/models/churn", json=[1]).status_code == 504
    time_passes.join()
