import threading

import numpy as np
import pytest

import infersdk


def test_the_models_own_route(client, churn, ada, bob):
    assert client.post("/models/churn", json=[ada, bob]).json == {"answers": ["leaves", "stays"]}


def test_another_method(client, churn, ada):
    reply = client.post("/models/churn/predict_proba", json=ada)
    assert reply.json == {"answers": [[0.25, 0.75]]}


def test_offers_go_to_those_who_leave(client, churn, ada, bob):
    assert client.post("/offers", json=[ada, bob]).json == {"offers": [ada]}
    assert churn.calls[0].rows == [ada, bob]


@pytest.mark.parametrize("url", ["/models/churn", "/offers"])
def test_a_customer_without_a_city_is_refused(client, churn, url):
    reply = client.post(url, json=[{"age": 36}])
    assert reply.status_code == 422
    assert "city" in reply.text
    assert not churn.runs


def test_an_overloaded_model(client, churn, ada):
    churn.script(faults=infersdk.OverloadedError("too many", retry_after_s=3))
    reply = client.post("/models/churn", json=ada)
    assert (reply.status_code, reply.headers["Retry-After"]) == (503, "3")


def test_a_busy_model(client, churn, ada, infersdk_clock):
    def let_time_pass():
        churn.wait_for_queued()
        infersdk_clock.advance(5)

    with churn.busy():
        time_passes = threading.Thread(target=let_time_pass)
        time_passes.start()
        assert client.post("/models/churn", json=ada).status_code == 504
        time_passes.join()


@pytest.mark.infersdk_models(churn="stays")
def test_nobody_leaves(client, ada, bob):
    assert client.post("/offers", json=[ada, bob]).json == {"offers": []}


def test_answers_are_not_mixed_up(app, churn, ada, bob, hammer):
    def ask(customer):
        return app.test_client().post("/models/churn", json=customer).json["answers"]

    answers = hammer(ask, inputs=[ada, bob], threads=4, calls=6)
    assert answers == [["leaves"], ["stays"]] * 12


def test_a_real_model(
    client, use_predictor, predictor_factory, assert_parity, record_traffic, replay
):
    churn = predictor_factory("classifier", fields=["age", "income"], labels=["stays", "leaves"])
    recorded = use_predictor("churn", record_traffic(churn))
    customers = [{"age": age, "income": 1000.0 - age} for age in range(5)]
    reply = client.post("/models/churn/predict_proba", json=customers)
    assert np.allclose(reply.json["answers"], churn.predict_proba(customers))
    path = churn.save(f"{recorded.path}.onnx")
    assert_parity(path, churn, customers)
    report = replay(recorded.path, churn)
    assert report.passed, report
