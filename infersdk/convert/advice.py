"""What to change about a model so that it converts: a table from types and reasons to advice.

The reasons are the converters' own sentences, and exporters' errors; a row of the table matches words of
them. Advice is for the model's owner and says what to write instead, where that is known.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

__all__ = ["ADVICE", "Advice", "advise"]


@dataclass(frozen=True, slots=True)
class Advice:
    """One row of the table.

    Parameters
    ----------
    words : str
        Regular expression, searched in the reason without regard to case.
    text : str
        What to change; ``{kind}`` is the type's name.
    kind : str
        Regular expression that the type's name must match as a whole; "" matches every type.
    """

    words: str
    text: str
    kind: str = ""


_NAMED = re.compile(r"(?:\w+\.)*(\w+) has no (?:exact )?ONNX form")
"""Of a model made of parts, the part that the reason is about."""

ADVICE: tuple[Advice, ...] = (
    # What the model lacks before anything else can be said about it.
    Advice(
        r"there were no rows to compare|an example is needed|pass an example|pass one batch as example",
        "Pass an example (example=, --example): a few hundred rows of the training data, with its dtypes",
    ),
    Advice(r"unfitted|not fitted|fitted .*, got|call fit\(\)|untrained", "Fit the model first"),
    Advice(r"the class .* itself|not the class", "Pass the fitted object, not its class"),
    Advice(
        r"is not installed|no module named|pip install",
        "Install the package that the reason names",
    ),
    # scikit-learn
    Advice(
        r"",
        "Give it a NumPy ufunc (np.log1p), use scikit-learn's own transformers instead, or make the function a "
        "transformer class and write its ONNX form: @infersdk.convert.register(YourClass)",
        kind="FunctionTransformer",
    ),
    Advice(
        r"set_output|gives a DataFrame",
        'Call set_output(transform="default"): arrays instead of DataFrames',
    ),
    Advice(
        r"sparse (answer|data|matri|output|result)|gives? sparse",
        "Let the step give dense arrays (sparse_output=False), where they fit in memory",
    ),
    Advice(
        r"char_wb|strip_accents|preprocessor|tokenizer=|custom tokenizer|token_pattern|analyzer",
        "Use analyzer='word' or 'char' with the default tokenizer, and do other cleaning before the model",
        kind=r".*Vectorizer",
    ),
    Advice(
        r"",
        "A CountVectorizer or TfidfVectorizer with max_features converts; hashing does not",
        kind="HashingVectorizer",
    ),
    Advice(
        r"dicts of any keys",
        "Use a ColumnTransformer with a OneHotEncoder instead of DictVectorizer or FeatureHasher",
    ),
    Advice(
        r"several targets",
        "Fit one model per target",
    ),
    Advice(
        r"text column reaches|encode it first",
        "Put an encoder (OneHotEncoder, OrdinalEncoder) before the step that takes numbers",
    ),
    Advice(
        r"random|samples at random|differently each time|dropout",
        "Give the same answer to the same rows: call eval(), drop training=True, seed or remove sampling",
    ),
    # tensors
    Advice(
        r"decision by the values|data-dependent|data dependent|GuardOnDataDependent|Could not guard|control flow|"
        r"TracerBoolConversion|ConcretizationTypeError|depends on the values",
        "Replace the branch on a tensor's value by torch.where or torch.cond (JAX: jnp.where, lax.cond)",
    ),
    Advice(
        r"keeps state|stateful|writes to (its |\w+ )?variables|carries its state",
        "Make the state an input and an output of the model, and keep it per caller: predictor.stream()",
    ),
    Advice(
        r"effects beside its answer|callback",
        "Leave jax.debug.print and callbacks out of the function that is served",
    ),
    Advice(
        r"no form of these|cannot write the function|jax2onnx cannot export",
        "Take the operator that the reason names out of the model (do it in NumPy before or after), or write "
        "it with others",
    ),
    Advice(
        r"complex|no ONNX graph gives or takes it|real numbers or booleans",
        "Take and give real and imaginary parts as two float tensors",
    ),
    Advice(
        r"return tensors|flat, in one tuple or dict",
        "Return one tensor, or a flat tuple or dict of tensors",
    ),
    Advice(
        r"cannot be copied",
        "Keep locks, open files and generators out of the model",
    ),
    Advice(r"GB of weights|too large", "Convert it in half precision"),
    # everything else
    Advice(
        r"objective .* no known link",
        "Train with a built-in objective, or with the nearest one that the reason names",
    ),
    Advice(
        r"sentencepiece|slow tokenizer|no fast tokenizer",
        "Load the model with its fast tokenizer (AutoTokenizer, use_fast=True)",
    ),
    Advice(
        r"answers differently|differs in \d+ rows|differ",
        "It is served by its own framework, and rightly so. If the largest error is below what matters to you: "
        'on_mismatch="warn" serves the converted model',
    ),
    # The reason says it all.
    Advice(r"a plain function says nothing", ""),
    Advice(
        r"expected a model of",
        "Write an ONNX file with the framework's own exporter and load that; a Python function of a list of "
        "rows is served by @infersdk.batched",
    ),
    Advice(
        r"no exact ONNX form|no ONNX form|unable to find a (shape calculator|converter)",
        "Write its ONNX form: @infersdk.convert.register({kind})",
    ),
)
"""The first row that matches decides."""


def advise(reason: str, kind: str = "") -> str:
    """Return what to change, or "" where nothing is known.

    Parameters
    ----------
    reason : str
        Why it does not convert.
    kind : str, optional
        The name of its type.

    Examples
    --------
    >>> advise("the branch is data-dependent")
    "Replace the branch on a tensor's value by torch.where or torch.cond (JAX: jnp.where, lax.cond)"
    >>> advise("")
    ''
    """
    named = _NAMED.search(reason)
    if named:
        kind = named[1]
    for row in ADVICE:
        if row.kind and not re.fullmatch(row.kind, kind):
            continue
        if reason and re.search(row.words, reason, re.IGNORECASE):
            return row.text.replace("{kind}", kind or "YourClass")
    return ""
