"""The limit of Flask under this server: a view that reads its body and says hello."""

from __future__ import annotations

from flask import Flask, request

app = Flask(__name__)


@app.post("/predict")
def hello() -> str:
    request.get_data()
    return "hello"
