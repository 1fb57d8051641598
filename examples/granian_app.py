"""Nothing but models, over RSGI, Granian's own interface: the fastest way to ask a model over HTTP.

    granian --interface rsgi --workers 2 examples.granian_app:infer.rsgi

The same models over ASGI, for any other server:

    uvicorn examples.granian_app:infer.app
"""

from __future__ import annotations

from examples.fastapi_app import iris_model
from infersdk.web.asgi import InferSDK

infer = InferSDK(models={"iris": iris_model}, timeout_s=5)
