"""What a calibration left: numbers, figures, a page.

`__all__` is public. What else is imported here serves other rooms of xpjax, and may change.
"""

from xpjax.survey.report.statistics import Evidence, gather_evidence
from xpjax.survey.report.statistics import with_frames as with_frames

__all__ = [
    "Evidence",
    "gather_evidence",
]
