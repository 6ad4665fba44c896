"""Every section of survey.toml, and what the page of all entries says of each entry."""

from xpjax.io.config import reference
from xpjax.survey.reading import SECTIONS
from xpjax.survey.report import survey_sections


def test_every_section_is_listed_with_the_meaning_of_its_entries() -> None:
    found = survey_sections()
    named = {heading.strip("[]").split("]]")[0] for heading in found}
    assert {"columns", "band", "model", "regression", "camera", "joint", "term", "constraint", "simulate"} <= named
    assert named <= set(SECTIONS)
    for heading, section in found.items():
        for name, field in section.model_fields.items():
            assert field.description, f"{heading} {name}"
    assert "`position_order`" in reference(found)
