"""Catalogues of many files: resumable runs, and stores as HATS catalogues.

`__all__` is public. What else is imported here serves other rooms of xpjax, and may change.
"""

from xpjax.catalogue.estimate import RunEstimate as RunEstimate, duration as duration, estimate_catalogue, size as size
from xpjax.catalogue.export import HatsReport as HatsReport, export_hats
from xpjax.catalogue.partitions import open_sources as open_sources
from xpjax.catalogue.run import RunReport as RunReport, run_catalogue
from xpjax.catalogue.state import RunStatus as RunStatus, disk_used as disk_used, read_status
from xpjax.catalogue.survey import UnitsReport as UnitsReport, calibrate_units

__all__ = ["calibrate_units", "estimate_catalogue", "export_hats", "read_status", "run_catalogue"]
