"""The Django app: makes the models when Django is set up, and opens them where a server's worker is."""

from __future__ import annotations

from django.apps import AppConfig
from django.core.exceptions import ImproperlyConfigured
from django.core.signals import setting_changed

from infersdk.predictors import add_resolver
from infersdk.predictors.server_process import role
from infersdk.web.django import conf

__all__ = ["InferSDKConfig"]


class InferSDKConfig(AppConfig):
    """``"infersdk.web.django"`` in ``INSTALLED_APPS``."""

    name = "infersdk.web.django"
    label = "infersdk"
    verbose_name = "infersdk"

    def ready(self) -> None:
        """Open the models in a server's worker; in its workers, if it is a preloading server.

        Every command of ``manage.py``, a shell and a test run come here too. They open nothing, and what is
        wrong with the settings is left to the system checks.

        Raises
        ------
        Exception
            In a server: the settings are wrong, or a model cannot be opened. The worker does not start.
        """
        from infersdk.web.django import checks

        checks.register()
        add_resolver(conf.predictors, last=True)
        setting_changed.connect(conf.when_changed, dispatch_uid="infersdk")
        try:
            predictors = conf.predictors()
        except (ImproperlyConfigured, ImportError):
            if role() != "other":
                raise
            return
        if predictors is not None:
            predictors.prepare()
