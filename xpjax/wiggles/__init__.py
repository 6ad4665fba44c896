"""Corrections of the systematic wiggles of XP spectra, carried into synthetic photometry."""
