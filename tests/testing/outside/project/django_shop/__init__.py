"""The same shop in Django."""
