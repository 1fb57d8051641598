"""A shop that asks a model who is about to leave."""
