"""Photometric systems, and synthetic magnitudes in them."""
