"""Models in a FastAPI app.

Two lines in an app::

    app = FastAPI()
    infer = InferSDK(app, models={"churn": "churn.onnx"}, url_prefix="/models")

The models' routes are then in the app's own documentation, with schemas made from the models. They are one
plain route, behind the app's middleware: FastAPI's own way of reading and checking a body would cost as much
again as the model. Only where the app asks for dependencies (authentication, say) are they solved first.

Endpoints of one's own take a model as ``Annotated[Predictor, Depends(infer.predictor("churn"))]``, and its rows
as ``infer.row_model("churn")``.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Coroutine, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Unpack

from infersdk.errors import MissingDependencyError

try:
    from fastapi import FastAPI, Request, Response
except ModuleNotFoundError as error:
    if error.name != "fastapi":
        raise
    raise MissingDependencyError.for_extra("fastapi", "fastapi", "The FastAPI adapter") from error

from infersdk.artifact import Artifact
from infersdk.predictors import current_predictors
from infersdk.runtime import Predictor
from infersdk.types import Signature
from infersdk.web import starlette
from infersdk.web.asgi import PredictorsMiddleware
from infersdk.web.json_rows import decode, encode
from infersdk.web.openapi import openapi
from infersdk.web.settings import Options

if TYPE_CHECKING:
    from fastapi.params import Depends
    from pydantic import BaseModel

__all__ = ["InferSDK", "PredictorsMiddleware", "current_predictors"]


class InferSDK(starlette.InferSDK):
    """The models of a FastAPI app.

    ``InferSDK(app, models=...)``, or ``infer = InferSDK(models=...)`` and then ``infer.init_app(app)``: where
    the app is made later, or the models' routes need dependencies.

    Parameters
    ----------
    app : fastapi.FastAPI, optional
        To be set up at once.
    models, url_prefix, **options
        As for :class:`infersdk.web.asgi.InferSDK`.

    Raises
    ------
    TypeError, ValueError
        A value is not valid.
    RuntimeError
        As :meth:`init_app`.

    Examples
    --------
    >>> from fastapi import FastAPI
    >>> from infersdk.web.fastapi import InferSDK
    >>> app = FastAPI()
    >>> infer = InferSDK(app, models={"churn": "churn.onnx"}, url_prefix="/models")
    """

    def __init__(
        self,
        app: FastAPI | None = None,
        *,
        models: Mapping[str, Any] | None = None,
        url_prefix: str | None = None,
        **options: Unpack[Options],
    ) -> None:
        self._dependencies: dict[str, Callable[[], Coroutine[Any, Any, Predictor]]] = {}
        super().__init__(app, models=models, url_prefix=url_prefix, **options)

    def init_app(  # type: ignore[override]
        self,
        app: FastAPI,
        *,
        url_prefix: str | None = None,
        dependencies: Sequence[Depends] = (),
        include_in_schema: bool = True,
    ) -> None:
        """Add the models to an app: their life, their routes, and a handler for infersdk's errors.

        Parameters
        ----------
        app : FastAPI
        url_prefix : str, optional
            Where the models' routes are; by default the ``url_prefix`` of the class. With neither the app's
            own endpoints answer.
        dependencies : sequence of Depends
            Solved before the models' routes answer, after those of the app itself.
        include_in_schema : bool
            Whether the app's OpenAPI document has the models' routes.

        Raises
        ------
        TypeError
            It is no app.
        RuntimeError
            The app has models already, or has begun to serve.
        """
        prefix = self._prepare(app, url_prefix)
        if prefix is None:
            return
        if dependencies or app.router.dependencies:

            async def answer(path: str, request: Request, response: Response) -> Response:
                reply = await self._respond(request, "/" + path)
                reply.raw_headers += response.raw_headers  # those that dependencies have set
                return reply

            for methods, documented in ((["POST"], include_in_schema), (["GET", "HEAD"], False)):
                app.add_api_route(
                    prefix + "/{path:path}",
                    answer,
                    methods=methods,
                    dependencies=dependencies,
                    include_in_schema=documented,
                    name="infersdk",
                    response_model=None,
                )
        else:
            starlette.add_route(app, self, prefix)
        if include_in_schema:
            _describe(app, self, prefix)

    def predictor(self, name: str) -> Callable[[], Coroutine[Any, Any, Predictor]]:
        """Make a dependency that gives a model: ``Depends(infer.predictor("churn"))``.

        The same for each call with one name, so that ``app.dependency_overrides`` finds it.

        Parameters
        ----------
        name : str

        Raises
        ------
        UnknownModelError
            No such model was declared.
        """
        self.predictors.config(name)
        if name not in self._dependencies:

            async def predictor() -> Predictor:
                return await self.get(name)

            self._dependencies[name] = predictor
        return self._dependencies[name]

    def row_model(self, name: str) -> type[BaseModel]:
        """Make a pydantic model of a model's rows, for endpoints of one's own.

        ``row.model_dump()`` is what the Predictor takes. Fields whose names are no Python names have one
        made of theirs, and their own as alias. Of an ``.onnx`` file only the signature is read here; a model
        of any other source is opened, as its fields must be known.

        Parameters
        ----------
        name : str

        Raises
        ------
        UnknownModelError
            No such model was declared.
        TypeError
            The model's rows have no named fields.
        ArtifactError
            The file is missing or damaged.
        """
        from infersdk.web.pydantic_rows import row_model

        return row_model(name, self._signature(name))

    def _signature(self, name: str) -> Signature:
        source = self.predictors.config(name).source
        is_file = isinstance(source, (str, os.PathLike)) and os.fspath(source).endswith(".onnx")
        if is_file and not self.predictors.is_open(name):
            return Artifact.open(source, verify=False).signature
        return self.predictors[name].signature


# -- OpenAPI -------------------------------------------------------------------------------------


def _describe(app: FastAPI, infer: InferSDK, prefix: str) -> None:
    """Add the models' routes to the app's OpenAPI document, as FastAPI's documentation extends it."""
    own = app.openapi
    known: dict[str, Any] = {}  # the last document of the app's own, and what was made of it

    def extended() -> dict[str, Any]:
        document = own()
        if known.get("own") is not document:
            known.update(own=document, extended=_extended(document, infer, prefix))
        made: dict[str, Any] = known["extended"]
        return made

    app.openapi = extended  # type: ignore[method-assign]


def _extended(document: dict[str, Any], infer: InferSDK, prefix: str) -> dict[str, Any]:
    # The app may have a Problem of its own.
    models = decode(
        encode(openapi(infer.service)).replace(
            b'"#/components/schemas/Problem"', b'"#/components/schemas/InferSDKProblem"'
        )
    )
    paths = dict(document.get("paths", {}))
    # Where dependencies are solved, FastAPI knows the headers and the security that they ask for.
    asked = paths.pop(prefix + "/{path}", {}).get("post", {})
    parameters = [item for item in asked.get("parameters", []) if item["in"] != "path"]
    common = {"security": asked.get("security"), "parameters": parameters}
    common = {key: value for key, value in common.items() if value}
    for below, operations in models["paths"].items():
        paths[prefix + below] = {
            method: {**operation, **common} for method, operation in operations.items()
        }
    components = dict(document.get("components", {}))
    components["schemas"] = {
        **components.get("schemas", {}),
        "InferSDKProblem": models["components"]["schemas"]["Problem"],
    }
    return {**document, "paths": paths, "components": components}
