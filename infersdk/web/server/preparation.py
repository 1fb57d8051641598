"""Every model is opened once before there are workers, in a process of its own.

What cannot be opened is said in one sentence then, rather than by each worker in turn; what had to be converted is
converted once, and the workers open the result; and the process that starts the workers stays small: it has neither
frameworks nor ONNX Runtime's threads in it when it forks.
"""

from __future__ import annotations

import logging
import logging.config
import multiprocessing
import os
import signal
import time
from dataclasses import replace
from multiprocessing.connection import Connection
from pathlib import Path
from typing import NamedTuple

from infersdk.options import Execution
from infersdk.predictors import ModelConfig, Predictors
from infersdk.runtime import Predictor
from infersdk.web.server.logs import configuration
from infersdk.web.server.options import ServerOptions, StartError
from infersdk.web.service import Service

__all__ = ["ModelSummary", "Prepared", "prepare"]

logger = logging.getLogger("infersdk")


class ModelSummary(NamedTuple):
    """A model that can be opened.

    Attributes
    ----------
    name : str
    methods : tuple of str
        Those that may be asked for, the main one first.
    plan : str
        How it runs: "onnx", "hybrid" or "native".
    """

    name: str
    methods: tuple[str, ...]
    plan: str


class Prepared(NamedTuple):
    """What came of it.

    Attributes
    ----------
    models : tuple of ModelSummary
    configs : dict of str to ModelConfig
        What the workers are to open.
    seconds : float
        That all of it took.
    """

    models: tuple[ModelSummary, ...]
    configs: dict[str, ModelConfig]
    seconds: float


def prepare(options: ServerOptions, folder: Path) -> Prepared:
    """Open all models in a process of its own, and wait for it.

    Parameters
    ----------
    options : ServerOptions
    folder : Path
        For the models that had to be converted.

    Raises
    ------
    StartError
        A model cannot be opened, or the process did not survive it.
    """
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe(duplex=False)
    began = time.monotonic()
    process = context.Process(target=_run, args=(options, folder, theirs), daemon=True)
    process.start()
    theirs.close()
    try:
        found: Prepared | str = ours.recv()
    except EOFError:
        process.join()
        raise StartError(_how_it_ended(process.exitcode)) from None
    finally:
        # A signal may have come meanwhile.
        process.terminate()
        process.join()
        ours.close()
    if isinstance(found, str):
        raise StartError(found)
    return found._replace(seconds=time.monotonic() - began)


def _run(options: ServerOptions, folder: Path, pipe: Connection) -> None:
    """In the process of its own."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's, which ends this process
    os.dup2(2, 1)  # what frameworks print is no answer
    logging.config.dictConfig(configuration(options.log_level, options.log_format))
    try:
        pipe.send(_open_all(options, folder))
    except Exception as error:
        logger.debug("the models could not be opened", exc_info=True)
        pipe.send(_sentence(error))
    pipe.close()


def _open_all(options: ServerOptions, folder: Path) -> Prepared | str:
    threads = options.threads_of_a_run
    configs = {
        name: _with_threads(ModelConfig.of(source), threads)
        for name, source in options.settings.models.items()
    }
    predictors = Predictors(configs)
    service = Service(predictors, options.settings)
    opened = []
    problems = []
    for name in predictors:
        try:
            predictor = predictors.load(name)
        except Exception as error:
            logger.debug("model `%s` could not be opened", name, exc_info=True)
            problems.append(f"Model `{name}` cannot be opened: {_sentence(error)}")
            continue
        opened.append(ModelSummary(name, tuple(service.methods(name)), predictor.plan.kind))
        configs[name] = _converted(name, configs[name], predictor, folder)
    if problems:
        return "\n".join(problems)
    return Prepared(tuple(opened), configs, 0.0)


def _with_threads(config: ModelConfig, threads: int) -> ModelConfig:
    if config.execution is not None and config.execution.threads is not None:
        return config
    return replace(config, execution=replace(config.execution or Execution(), threads=threads))


def _converted(name: str, config: ModelConfig, predictor: Predictor, folder: Path) -> ModelConfig:
    """What workers are to open: the file of a model that had to be converted, where that says everything."""
    is_file = isinstance(config.source, (str, os.PathLike))
    if is_file and str(config.source).lower().endswith(".onnx"):
        return config
    if predictor.artifact is None or predictor.plan.kind != "onnx":
        return config
    known = [method.name for method in predictor.signature.methods]
    if [method.name for method in predictor.artifact.signature.methods] != known:
        return config  # some of its methods are the source model's
    path = predictor.save(folder / f"{name}.onnx")
    return replace(config, source=path, trust=False)


def _sentence(error: BaseException) -> str:
    from infersdk.errors import InferSDKError

    message = str(error) or type(error).__name__
    if isinstance(error, InferSDKError) or type(error).__module__.startswith("infersdk."):
        return message
    return f"{type(error).__name__}: {message}" if message != type(error).__name__ else message


def _how_it_ended(status: int | None) -> str:
    if status is not None and status < 0:
        how = f"was ended by {signal.Signals(-status).name}"
        if -status == signal.SIGKILL:
            how += ", perhaps for want of memory"
    else:
        how = f"ended by itself with status {status}"
    return f"The process that opened the models, to try them, {how}"
