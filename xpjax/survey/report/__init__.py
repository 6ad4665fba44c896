"""What a calibration left: numbers, figures, a page.

`__all__` is public. What else is imported here serves other rooms of xpjax, and may change.
"""

from xpjax.core.periods import find_period
from xpjax.survey.report.evidence import Evidence
from xpjax.survey.report.gather import gather_evidence
from xpjax.survey.report.page import write_report
from xpjax.survey.report.sections import survey_sections as survey_sections

__all__ = ["Evidence", "find_period", "gather_evidence", "write_report"]
