import asyncio

import pytest
from django.test import SimpleTestCase

import infersdk


def post(client, url, customers):
    return client.post(url, customers, content_type="application/json")


def test_the_models_own_route(client, churn, ada, bob):
    assert post(client, "/models/churn", [ada, bob]).json() == {"answers": ["leaves", "stays"]}


def test_offers_go_to_those_who_leave(client, churn, ada, bob):
    assert post(client, "/offers", [ada, bob]).json() == {"offers": [ada]}


def test_a_customer_without_a_city_is_refused(client, churn):
    reply = post(client, "/models/churn", [{"age": 36}])
    assert reply.status_code == 422
    assert b"city" in reply.content


def test_a_broken_model(client, churn, ada):
    churn.script(faults=[infersdk.SessionError("secret"), None])
    reply = post(client, "/models/churn", ada)
    assert reply.status_code == 500
    assert b"secret" not in reply.content
    assert post(client, "/models/churn", ada).status_code == 200


def test_the_description_has_the_fields(client, churn):
    description = client.get("/models/churn").json()
    assert [field["name"] for field in description["fields"]] == ["age", "city"]


@pytest.mark.asyncio
async def test_an_async_view(async_client, churn, ada):
    reply = await post(async_client, "/score", ada)
    assert reply.json() == {"answers": [[0.25, 0.75]]}
    assert churn.calls[0].task


@pytest.mark.asyncio
async def test_a_busy_model(async_client, churn, ada, infersdk_clock):
    with churn.busy():
        asked = asyncio.create_task(post(async_client, "/score", ada))
        await asyncio.to_thread(churn.wait_for_queued)
        infersdk_clock.advance(5)
        assert (await asked).status_code == 504


@pytest.mark.asyncio
async def test_many_at_once_share_runs(async_client, churn, ada, hammer):
    async def ask():
        return (await post(async_client, "/score", ada)).status_code

    assert set(await hammer.tasks(ask, tasks=8, calls=2)) == {200}
    assert len(churn.runs) <= len(churn.calls) == 16


@pytest.mark.infersdk_models(churn="leaves")
class TheShop(SimpleTestCase):
    def test_everybody_gets_an_offer(self):
        ada = {"age": 36, "city": "Rome"}
        assert post(self.client, "/offers", [ada]).json() == {"offers": [ada]}
