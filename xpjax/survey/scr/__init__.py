"""Stellar color regression."""
