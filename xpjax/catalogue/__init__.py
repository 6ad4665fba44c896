"""Catalogues of many files: resumable runs.

`__all__` is public. What else is imported here serves other rooms of xpjax, and may change.
"""

from xpjax.catalogue.run import RunReport as RunReport, run_catalogue
from xpjax.catalogue.state import RunStatus as RunStatus, read_status

__all__ = ["read_status", "run_catalogue"]
