"""An app's settings, as hosts give them."""

from __future__ import annotations

from typing import Any

import pytest

from infersdk.web.settings import Settings


def test_keys_of_a_host() -> None:
    config = {"DEBUG": True, "INFERSDK_MODELS": {"churn": "a.onnx"}, "INFERSDK_TIMEOUT_S": None}
    settings = Settings.from_mapping(config, prefix="INFERSDK_")
    assert settings.models == {"churn": "a.onnx"}
    assert settings.timeout_s is None
    assert settings.max_rows == 10_000
    assert Settings.from_mapping({"URL_PREFIX": "models/"}).url_prefix == "/models"


@pytest.mark.parametrize(
    ("config", "error", "message"),
    [
        ({"INFERSDK_MODEL": {}}, ValueError, "`INFERSDK_MODEL`.*did you mean `INFERSDK_MODELS`"),
        ({"INFERSDK_X": {}}, ValueError, "they are INFERSDK_MODELS, INFERSDK_URL_PREFIX"),
        ({"INFERSDK_MODELS": ["a"]}, TypeError, "INFERSDK_MODELS to be a dict"),
        ({"INFERSDK_MAX_ROWS": 0}, ValueError, "INFERSDK_MAX_ROWS to be a whole number"),
        ({"INFERSDK_MAX_ROWS": True}, ValueError, "INFERSDK_MAX_ROWS to be a whole number"),
        ({"INFERSDK_TIMEOUT_S": 0}, ValueError, "INFERSDK_TIMEOUT_S to be a positive"),
        ({"INFERSDK_URL_PREFIX": 3}, TypeError, "INFERSDK_URL_PREFIX to be a str"),
        ({"INFERSDK_OPENING": "soon"}, ValueError, "INFERSDK_OPENING to be 'auto'"),
        (
            {"INFERSDK_MODELS": {"churn": {"sauce": 1}}},
            ValueError,
            r"INFERSDK_MODELS\['churn'\]: `sauce`.*did you mean `source`",
        ),
    ],
)
def test_what_is_wrong_is_named_as_the_host_names_it(
    config: dict[str, Any], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        Settings.from_mapping(config, prefix="INFERSDK_")
