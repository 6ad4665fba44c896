"""All sections of `survey.toml`, of all survey commands."""

from __future__ import annotations

from xpjax.io.config import Section
from xpjax.survey.joint import sections as joint_sections
from xpjax.survey.reading import OWN as SHARED, SECTIONS
from xpjax.survey.report.camera import CameraSection
from xpjax.survey.scr import OWN as OF_SCR


def survey_sections() -> dict[str, type[Section]]:
    """The sections by their headings, for the page of all entries: `xpjax.io.config.reference`."""
    plain = {**SHARED, **OF_SCR, "camera": CameraSection}
    return {f"[[{name}]]" if SECTIONS[name] else f"[{name}]": one for name, one in plain.items()} | joint_sections()
