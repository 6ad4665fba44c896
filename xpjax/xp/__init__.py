"""Coefficients, bases, instrument models and spectra."""
