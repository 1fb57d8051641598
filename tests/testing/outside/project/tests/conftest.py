import pytest

FIELDS = {"age": float, "city": str}


@pytest.fixture
def churn(fake_predictor, use_predictor):
    """The model in both apps: customers from Oslo leave."""

    def predict(customers):
        return ["leaves" if customer["city"] == "Oslo" else "stays" for customer in customers]

    fake = fake_predictor(
        {"predict": predict, "predict_proba": (0.25, 0.75)}, name="churn", fields=FIELDS
    )
    return use_predictor("churn", fake)


@pytest.fixture
def ada():
    return {"age": 36, "city": "Oslo"}


@pytest.fixture
def bob():
    return {"age": 41, "city": "Rome"}
