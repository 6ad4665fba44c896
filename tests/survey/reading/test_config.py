"""What survey.toml may say."""

from typing import Any

import pytest

from tests.survey.reading.helpers import BY_POSITION, COLUMNS, config
from xpjax.survey.reading.sections import OWN, SECTIONS

BAND = [{"name": "g", "magnitude": "MAG"}, {"name": "r", "magnitude": "MAG"}]


@pytest.mark.parametrize(
    ("columns", "sections", "message"),
    [
        ({"x": "X"}, {}, "x and no y"),
        ({"dec": "DEC"}, {}, "dec and no ra"),
        ({"apertures": "A"}, {}, "magnitude and apertures"),
        ({"aperture_errors": "A"}, {}, "aperture_errors and no apertures"),
        ({"model": None, "model_error": "E"}, {}, "model_error and no model"),
        ({"amplifier": "A"}, {}, "columns.amplifier has no effect"),
        ({}, {"band": BAND}, "bands g and r have the same magnitudes, MAG"),
        ({}, {"standards": {"file": "r", "radius": 2}}, "radius has no effect with match"),
        ({}, {"standards": {**BY_POSITION, "pm_ra": "p"}}, "pm_ra and no pm_dec"),
        ({}, {"standards": {**BY_POSITION, "ra": "p"}}, "ra and no dec"),
        ({}, {"standards": {**BY_POSITION, "epoch": 2000.0}}, "epoch moves no position without"),
        (
            {},
            {"standards": {**BY_POSITION, "pm_ra": "p", "pm_dec": "q", "epoch": 2000.0, "years": 1}},
            "epoch and years, which say the same",
        ),
        ({}, {"selection": {"limits": {"ruwe": 1.2}}}, "limit 'ruwe' has no effect without cuts"),
        ({}, {"selection": {"cuts": ["flags"], "limits": {"ruwe": 1.2}}}, "no limit 'ruwe' in the cuts"),
        ({}, {"model": {"neighbors": 30}}, "neighbors has no effect without numerical_flat"),
        ({}, {"model": {"position_order": 2}}, "position_order = 2 needs columns.x and columns.y"),
        ({}, {"model": {"stacked_flat": True}}, "stacked_flat = true needs columns.x and columns.y"),
        ({}, {"model": {"numerical_flat": True}}, "or set numerical_flat = false"),
        ({"color": None}, {"model": {"color_order": 2}}, "color_order = 2 needs columns.color"),
        ({}, {"model": {"amplifiers": True}}, "amplifiers = true needs columns.amplifier"),
        ({}, {"model": {"size": [10, 10]}}, "size has no effect without position terms"),
        ({}, {"model": {"color_order": 0, "color_zero": 1.0}}, "color_zero has no effect"),
        ({}, {"model": {"magnitude_order": 0, "magnitude_zero": 1.0}}, "magnitude_zero has no effect"),
        ({"star": 5}, {}, "star = 5: expected the name of one column"),
        ({"ra": 10.0, "dec": "DEC"}, {}, "ra = 10.0: expected the name of one column"),
        ({"bands": "gr"}, {}, "bands = 'gr': expected a list"),
        ({}, {"standards": "ref.fits"}, r"expected a section, \[standards\]"),
        ({}, {"selection": {"cuts": "ruwe"}}, "cuts = 'ruwe': expected a list"),
        ({}, {"selection": {"cuts": ["ruwe"], "limits": {"ruwe": "1.4"}}}, "limit ruwe = '1.4': expected a number"),
        (
            {"airmass": 1.2},
            {"passband": {"chain": "c", "sources": "s", "models": True}},
            "models = true replaces columns.model",
        ),
    ],
)
def test_settings_without_effect_are_refused(columns: dict[str, Any], sections: dict[str, Any], message: str) -> None:
    mapping = {k: v for k, v in {**COLUMNS, **columns}.items() if v is not None}
    with pytest.raises(ValueError, match=message):
        config(mapping, **sections)


@pytest.mark.parametrize("section", OWN)
def test_every_entry_has_a_meaning(section: str) -> None:
    lacking = [name for name, field in OWN[section].model_fields.items() if not field.description]
    assert not lacking
    assert set(OWN) <= set(SECTIONS)
