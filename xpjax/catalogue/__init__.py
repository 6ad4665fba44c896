"""Catalogues of many files: resumable runs."""
