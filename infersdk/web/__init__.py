"""infersdk inside web apps: one request path, and one thin adapter per host.

Each host's adapter is a module of its own (``infersdk.web.flask``, ``infersdk.web.django``, ...), which alone
imports the framework.
"""
