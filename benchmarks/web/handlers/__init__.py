"""Handlers as people have them, with one line too many: the ``accelerate`` case also serves them without it."""
