"""infersdk in a Django project: ``INSTALLED_APPS = [..., "infersdk.web.django"]`` and ``settings.INFERSDK``.

=================  =================================================================================
``conf``           reads the settings; the models and the Service of this process
``apps``           opens the models in a server's worker
``views``          ``answer`` and ``aanswer``, for views of the project; the views that are mounted
``urls``           ``path("models/", include("infersdk.web.django.urls"))``
``middleware``     errors of infersdk in the project's views become problem JSON
``drf``            a view and serializers for Django REST framework
``checks``         system checks, ``infersdk.E001`` and so on
``management``     ``manage.py infersdk list|check|info|predict|openapi``
=================  =================================================================================

There is nothing in the database and nothing in the admin.
"""
