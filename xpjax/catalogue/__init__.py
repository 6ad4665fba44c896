"""Catalogues of many files: resumable runs.

`__all__` is public. What else is imported here serves other rooms of xpjax, and may change.
"""

from xpjax.catalogue.pipeline import RunReport, catalogue_status, run_catalogue

__all__ = [
    "RunReport",
    "catalogue_status",
    "run_catalogue",
]
