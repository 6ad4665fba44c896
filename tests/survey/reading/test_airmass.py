"""Passbands at each exposure's own airmass, against spectra through the chain at exactly that airmass."""

import dataclasses

import numpy as np
import pytest

from xpjax.core.shipped import filters_folder
from xpjax.survey.exposures.calibrate import calibrate
from xpjax.survey.exposures.model import ExposureModel
from xpjax.survey.exposures.settings import CalibrationSettings
from xpjax.survey.observations import Observations, concatenate, make_observations
from xpjax.survey.reading.airmass import NODES, AirmassShifts, airmass_shifts, at_reference
from xpjax.synthetic.chain import TransmissionChain
from xpjax.synthetic.chain_file import read_chain
from xpjax.synthetic.magnitude import photometry
from xpjax.synthetic.projection import passband_system
from xpjax.xp import simulate
from xpjax.xp.sources import SourceTable

AIRMASS = np.array([1.0, 1.31, 1.63, 2.02])


@pytest.fixture(scope="module")
def chain() -> TransmissionChain:
    return read_chain(filters_folder() / "minisitian" / "system.toml")


@pytest.fixture(scope="module")
def table() -> SourceTable:
    return simulate.simulate_sources(200, seed=5)


@pytest.fixture(scope="module")
def shifts(chain: TransmissionChain, table: SourceTable) -> AirmassShifts:
    return airmass_shifts(chain, table, AIRMASS)


def magnitudes(chain: TransmissionChain, table: SourceTable, airmass: float) -> np.ndarray:
    system = passband_system(chain.with_parameters(airmass=airmass).passbands())
    return np.asarray(photometry(table, system, errors=False, float64=True).magnitude)


@pytest.fixture(scope="module")
def o(chain: TransmissionChain, table: SourceTable) -> Observations:
    """The g band at several airmasses, in the passband of each, without noise; zero-points fall with airmass."""
    n = len(table)
    rng = np.random.default_rng(0)
    model = magnitudes(chain, table, 1.2)[:, 0]
    color = np.asarray(table.columns["bp_rp"], float)
    parts = []
    for k, air in enumerate(AIRMASS):
        m = magnitudes(chain, table, float(air))[:, 0] - 22 + 0.2 * air
        part = make_observations(
            table.source_id, *rng.uniform(0, 1000, (2, n)), m, np.full(n, 0.002), model, color=color, airmass=air,
            exposure=f"e{k}", band="g",
        )  # fmt: skip
        parts.append(part)
    return concatenate(parts)


@pytest.mark.slow
def test_shifts_are_those_at_exactly_the_airmass(
    chain: TransmissionChain, table: SourceTable, shifts: AirmassShifts
) -> None:
    for air in AIRMASS:
        expected = magnitudes(chain, table, float(air)) - magnitudes(chain, table, 1.2)
        found = shifts.shift @ shifts.between(np.array([air]))[0]
        good = np.isfinite(expected)
        assert np.abs(found - expected)[good].max() < 1e-5
    assert np.nanmax(np.abs(shifts.shift[:, 0])) > 5e-3  # mmags are at stake
    assert shifts.reference == 1.2
    assert shifts.between(np.array([np.nan])).tolist() == [[0.0] * NODES]


@pytest.mark.slow
def test_magnitudes_of_all_exposures_are_in_one_passband(o: Observations, shifts: AirmassShifts) -> None:
    model = CalibrationSettings(ExposureModel(position_order=0, color_order=0, magnitude_order=0))
    spread = []
    for rows in (o, at_reference(o, shifts).observations):
        _, found = calibrate(rows, model)
        value = found.magnitude.reshape(len(AIRMASS), -1)
        spread.append(np.nanpercentile(np.ptp(value, axis=0), 90))
    assert spread[0] > 5e-3
    assert spread[1] < 2e-5


@pytest.mark.slow
def test_stars_without_spectra_go_by_color(o: Observations, shifts: AirmassShifts) -> None:
    without = np.arange(len(o)) % 2 == 0
    blind = dataclasses.replace(o, star=np.where(without, -o.star, o.star))
    whole, part = at_reference(o, shifts), at_reference(blind, shifts)
    assert part.by_spectrum == np.count_nonzero(~without & np.isfinite(whole.shift))
    ordinary = without & (o.color > 0.4) & (o.color < 2.0)
    off = np.abs(part.shift - whole.shift)[ordinary]
    assert np.median(off) < 0.6e-3
    assert np.median(np.abs(whole.shift[ordinary])) > 5 * np.median(off)
    np.testing.assert_array_equal(part.shift[~without], whole.shift[~without])
    few = np.flatnonzero(without)[::9]  # by the law of all, to the bit
    np.testing.assert_array_equal(at_reference(blind[few], shifts, laws=part.laws).shift, part.shift[few])
    assert at_reference(blind[few], shifts).by_color == 0
    nothing = dataclasses.replace(blind, color=np.where(without, np.nan, blind.color))
    left = at_reference(nothing, shifts)
    assert left.not_shifted >= without.sum()
    assert (left.shift[without] == 0).all()


@pytest.mark.slow
def test_models_of_the_spectra(o: Observations, shifts: AirmassShifts) -> None:
    found = at_reference(dataclasses.replace(o, model=o.model * np.nan), shifts, models=True).observations
    np.testing.assert_allclose(found.model, o.model, rtol=1e-12)
    assert (found.model_error[np.isfinite(found.model)] > 0).all()


def test_what_cannot_be(o: Observations, chain: TransmissionChain, table: SourceTable, shifts: AirmassShifts) -> None:
    with pytest.raises(ValueError, match=r"no \[atmosphere\]"):
        airmass_shifts(dataclasses.replace(chain, atmosphere=None), table, AIRMASS)
    with pytest.raises(ValueError, match="expected 1 to 20"):
        airmass_shifts(chain, table, np.array([0.5]))
    strange = dataclasses.replace(o.frames, band=np.full(len(o.frames), "q"))
    with pytest.raises(ValueError, match="no band 'q'"):
        at_reference(dataclasses.replace(o, frames=strange), shifts)
    timeless = dataclasses.replace(o.frames, airmass=np.full(len(o.frames), np.nan))
    found = at_reference(dataclasses.replace(o, frames=timeless), shifts)
    assert found.not_shifted == len(o)
    np.testing.assert_array_equal(found.observations.magnitude, o.magnitude)


@pytest.mark.slow
def test_the_linear_correction_of_the_spectra(chain: TransmissionChain, table: SourceTable) -> None:
    found, raw = (airmass_shifts(chain, table, AIRMASS, correction=c) for c in ("standard", None))
    seen = photometry(table, passband_system(chain.passbands(), correction="standard"), errors=False, float64=True)
    np.testing.assert_allclose(found.models.model, seen.magnitude, atol=1e-9)
    assert np.nanmedian(np.abs(found.models.model - raw.models.model)) > 1e-4
