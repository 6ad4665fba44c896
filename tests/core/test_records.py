"""What records say of themselves; rows of them picked and joined."""

import dataclasses
from collections.abc import Mapping

import numpy as np
import pytest

import xpjax
from xpjax.core.errors import XpjaxError
from xpjax.core.records import Catalogue, Record, Rows, concatenate_records
from xpjax.survey import SimulatedSurvey, SurveySetup
from xpjax.xp import simulate


def test_results_are_shown_by_their_shapes() -> None:
    sources = simulate.simulate_sources(3000, seed=1)
    found = xpjax.photometry(sources, ["JPLUS", "SDSS"])
    shown = repr(found)
    assert "magnitude=float32[3000, 17]" in shown
    assert "system=PhotometricSystem(...)" in shown
    assert repr(found.system).endswith("; Sdss: u, g, r, i, z)")
    assert "and 58 more}" in repr(found.catalogue())
    for record in (sources, found, found.catalogue(), xpjax.spectra(sources[:5]), xpjax.load_instrument()):
        assert repr(record).startswith(f"{type(record).__name__}(\n    ")
        assert len(repr(record)) < 1500
    assert (
        repr(Catalogue({"a": np.zeros(2)})) == "Catalogue(columns={a}, units={}, descriptions={}, shared={}, meta={})"
    )


def test_records_within_records() -> None:
    observations, _ = SimulatedSurvey(SurveySetup(n_exposure=2, n_star=20)).observe()
    assert "frames=Frames(...)" in repr(observations)
    assert f"star=int64[{len(observations)}]" in repr(observations)


@dataclasses.dataclass(frozen=True, repr=False)
class Stars(Rows, Record):
    star: np.ndarray
    color: np.ndarray | None
    columns: Mapping[str, np.ndarray]
    passed: Catalogue
    wavelength: np.ndarray

    row_fields = ("star", "color", "columns", "passed")


def stars(n: int, color: bool = True) -> Stars:
    ids = np.arange(n) + 10
    further = Catalogue({"x": ids * 2}, {"x": "pix"})
    return Stars(ids, ids / 2 if color else None, {"ra": ids * 1.0}, further, np.arange(n))


@pytest.mark.parametrize("rows", [slice(1, 3), np.array([1, 2]), np.array([False, True, True, False])])
def test_rows_are_picked(rows: object) -> None:
    part = stars(4)[rows]
    assert len(part) == 2
    assert part.star.tolist() == [11, 12]
    assert part.color is not None
    assert part.color.tolist() == [5.5, 6]
    assert part.columns["ra"].tolist() == [11, 12]
    assert part.passed.columns["x"].tolist() == [22, 24]
    assert part.passed.units == {"x": "pix"}
    assert len(part.wavelength) == 4
    assert stars(4, color=False)[rows].color is None


def test_one_row_is_a_table_of_one() -> None:
    assert [stars(4)[k].star.tolist() for k in (0, 3, -1, np.int64(-4))] == [[10], [13], [13], [10]]
    for k in (4, -5):
        with pytest.raises(IndexError, match=f"row {k} of a Stars of 4 rows"):
            stars(4)[k]


def test_records_are_joined() -> None:
    joined = concatenate_records([stars(3), stars(2)])
    assert joined.star.tolist() == [10, 11, 12, 10, 11]
    assert joined.passed.columns["x"].tolist() == [20, 22, 24, 20, 22]
    assert len(joined.wavelength) == 3
    assert concatenate_records([stars(3, color=False)] * 2).color is None
    one = stars(3)
    assert concatenate_records([one]) is one
    with pytest.raises(XpjaxError, match="some have color and some have none"):
        concatenate_records([one, stars(2, color=False)])
    other = dataclasses.replace(one, columns={"dec": one.columns["ra"]})
    with pytest.raises(XpjaxError, match=r"different columns cannot be joined: \['dec', 'ra'\]"):
        concatenate_records([one, other])
