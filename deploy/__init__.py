"""Bringing an installation's machines up: what runs beside the product, not in it."""
