"""A shop in Flask that asks a model which customers are about to leave."""

from flask import Flask, request

from infersdk.web.flask import InferSDK, current_predictors

infer = InferSDK(models={"churn": "models/churn.onnx"}, url_prefix="/models")


def create_app(**config):
    app = Flask(__name__)
    app.config.update(config)
    infer.init_app(app)

    @app.post("/offers")
    def offers():
        customers = request.get_json()
        leaves = current_predictors["churn"].predict(customers) == "leaves"
        return {
            "offers": [customer for customer, gone in zip(customers, leaves, strict=True) if gone]
        }

    return app
