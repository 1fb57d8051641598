SECRET_KEY = "of no use"
ALLOWED_HOSTS = ["*"]
ROOT_URLCONF = "django_shop.urls"
INSTALLED_APPS = ["infersdk.web.django"]
DATABASES = {"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": ":memory:"}}
INFERSDK = {"MODELS": {"churn": "models/churn.onnx"}, "TIMEOUT_S": 5}
