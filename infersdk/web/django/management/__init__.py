"""``manage.py infersdk``."""
