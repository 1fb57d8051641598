import pytest
from flask_shop import create_app

# pytest-django has fixtures of the same names; those of the folder count.
from pytest_flask.fixtures import client  # noqa: F401


@pytest.fixture
def app():
    return create_app(TESTING=True, INFERSDK_TIMEOUT_S=5)
