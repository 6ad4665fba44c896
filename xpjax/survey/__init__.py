"""Surveys calibrated with XP standards and spectroscopy. Nothing is exported here."""
