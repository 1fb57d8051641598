"""The models of an app: declared once by name, opened in each process that answers with them.

An app declares its models where it is set up (:class:`Predictors`, usually through a web adapter) and asks for
them anywhere as ``current_predictors["churn"]``. Declaring opens nothing: an app is also set up in a server's
master, in a shell, in a migration. :meth:`Predictors.prepare` knows which process is to open them.
"""

from __future__ import annotations

from infersdk.predictors.config import ModelConfig
from infersdk.predictors.current import CurrentPredictors, add_resolver, current_predictors
from infersdk.predictors.registry import Predictors, override

__all__ = [
    "CurrentPredictors",
    "ModelConfig",
    "Predictors",
    "add_resolver",
    "current_predictors",
    "override",
]
