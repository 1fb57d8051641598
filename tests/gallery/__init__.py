"""Every kind of model that infersdk claims to serve, and the table that says how well it does.

A module here has ``ENTRIES``, models of one framework. ``python -m tests.gallery`` loads them all and
writes docs/frameworks.md; ``test_gallery.py`` loads them again and compares with that table.
"""
