"""One survey.toml for all commands, and what is wrong in the sections of a color regression."""

from typing import Any

import pytest

from xpjax.survey.scr.config import read_scr_config

COLUMNS = {
    "teff": "T", "feh": "F", "reddening": "E", "bp": "BP", "rp": "RP", "magnitude": "{band}", "magnitude_error": 0.01,
}  # fmt: skip
BANDS = [{"name": "u", "gaia": "BP"}, {"name": "i", "gaia": "RP", "order": 2, "reddening": 0.3}]


def config(**more: Any) -> dict[str, Any]:
    return {"columns": COLUMNS, "band": BANDS, **more}


def test_bands_have_columns_and_terms_of_their_own() -> None:
    found = read_scr_config(config(regression={"order": 1, "position_order": 0}))
    assert [band.columns["magnitude"] for band in found.bands] == ["u", "i"]
    assert [band.model.order for band in found.bands] == [1, 2]
    assert [band.model.reddening for band in found.bands] == ["constant", 0.3]
    assert found.columns["reddening"] == "E"


def test_sections_and_columns_of_other_commands_are_left_alone() -> None:
    shared = {"columns": {**COLUMNS, "exposure": "EXP", "night": "N", "color": ["G", "R"]}}
    shared |= {"model": {"position_order": 2}, "joint": {}, "camera": {"diameter": 1.0}, "simulate": {"seed": 3}}
    found = read_scr_config(config(**shared))
    assert not {"exposure", "night", "color"} & set(found.columns)
    with pytest.raises(ValueError, match="did you mean regression"):
        read_scr_config(config(regresion={"order": 1}))


@pytest.mark.parametrize(
    ("section", "message"),
    [
        ({"regression": {"order": "three"}}, "order"),
        ({"regression": {"order": 5}}, "order must be 1, 2 or 3"),
        ({"regression": {"clipp": 3.0}}, "did you mean clip"),
        ({"columns": {**COLUMNS, "teff": ["T", "U"]}}, "expected the name of one column, or a number"),
        ({"band": []}, "there is no band"),
        ({"band": [BANDS[0], BANDS[0]]}, "bands of the same name"),
        ({"band": [{"gaia": "BP"}]}, "name"),
        ({"columns": {k: v for k, v in COLUMNS.items() if k != "feh"}}, "has no feh for band u"),
    ],
)
def test_wrong_entries_are_named(section: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        read_scr_config(config(**section))
