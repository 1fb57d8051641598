"""A form that takes a picture and says which colors are in it."""
