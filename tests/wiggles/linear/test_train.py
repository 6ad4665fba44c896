"""Linear corrections from pairs: errors that are known are found, others are not made."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

import xpjax
from tests.wiggles.linear.helpers import N, stars, wrong
from xpjax.wiggles.linear.evidence import Evidence, robust, smoothing
from xpjax.wiggles.linear.fit import (
    LinearSettings,
    Population,
    Training,
    judged,
    rms,
)
from xpjax.wiggles.linear.pairs import Pairs, read_pairs
from xpjax.wiggles.linear.train import Trained, train_linear
from xpjax.xp.correction import load_correction, write_correction


def test_a_known_error_of_the_instrument_is_found(trained: Trained) -> None:
    evidence = trained.evidence
    before, after = evidence.spectra()
    assert np.median(after) < np.median(before) / 3
    for system in ("JPLUS", "PanSTARRS1"):
        raw, left = evidence.magnitudes(system)
        assert np.all(robust(left).mean() < robust(raw).mean() / 3)


def test_references_of_other_stars_teach_nothing(pairs: Pairs, population: Population) -> None:
    others = dataclasses.replace(pairs, reference=np.roll(pairs.reference, 7, axis=0))
    evidence = Evidence.of(pairs, Training(others, population).left_out(), np.zeros(N))
    before, after = evidence.spectra()
    assert np.median(after) > 2 * np.median(before)


def test_stars_that_took_no_part_are_corrected(trained: Trained) -> None:
    model, value = xpjax.load_instrument(), stars(12, 77)
    true = value @ (model.default_design + wrong(model))
    options = {"errors": False, "float64": True}
    flux = xpjax.spectra(value, correction=trained.correction, resolution="full", **options).flux
    after, before = rms(flux, true, model), rms(value @ model.default_design, true, model)
    assert np.median(after) < np.median(before) / 1.4
    assert np.mean(after < before) > 0.8


def test_where_nothing_is_wrong_nothing_changes(pairs: Pairs, population: Population) -> None:
    right = dataclasses.replace(pairs, reference=pairs.coefficients @ pairs.instrument.default_design)
    # Photon noise is answered less than fully even then, a change that is far below what is wrong elsewhere.
    made = Training(right, population, LinearSettings(photons=0.0)).fit()
    wrong_one = Training(pairs, population, LinearSettings(photons=0.0)).fit()
    change, other = (pairs.coefficients @ c for c in (made, wrong_one))
    assert np.abs(change).max() < 0.01 * np.abs(other).max()


def test_files_round_trip_to_the_bit(trained: Trained, tmp_path: Path) -> None:
    a, b = tmp_path / "a.h5", tmp_path / "b.h5"
    write_correction(a, trained.correction)
    again = load_correction(a)
    write_correction(b, again)
    assert a.read_bytes() == b.read_bytes()
    np.testing.assert_array_equal(again.change, trained.correction.change)
    assert again.meta["n_pair"] == N
    with pytest.raises(FileExistsError, match="overwrite=True"):
        write_correction(a, again)
    a.write_bytes(b"nothing")
    with pytest.raises(ValueError, match="no file of a linear correction"):
        load_correction(a)


def test_too_few_pairs_are_refused(pairs: Pairs, population: Population) -> None:
    with pytest.raises(ValueError, match="10 or more"):
        train_linear(pairs[:5], population)


def test_the_standard_correction_is_small_and_says_where_it_is_from() -> None:
    standard = load_correction()
    assert standard is not None
    path = Path(xpjax.__file__).parent / "data" / "correction_dr3.h5"
    assert path.stat().st_size < 1e6
    assert standard.meta["n_pair"] == 66
    assert "CALSPEC" in standard.meta["sources"]["references"]
    assert len(standard.meta["files (sha256)"]) == 2


@pytest.mark.slow
def test_real_pairs_left_out(shared: Callable[[str], Path]) -> None:
    """The figures that the guide states, on real stars."""
    data = read_pairs(shared("calspec/xp_calspec_pairs.parquet"))
    standard = load_correction()
    assert standard is not None
    made = train_linear(data, Population.known(standard))
    before, after = made.evidence.spectra()
    assert np.median(after) < 0.0060 < 0.03 < np.median(before)
    assert np.median(made.evidence.spectra(336, 400)[1]) < 0.040
    seen = made.evidence[made.evidence.bp_rp < 2]
    nine = ("J0410", "J0430", "gJPLUS", "J0515", "rJPLUS", "J0660", "iJPLUS", "J0861", "zJPLUS")
    assert np.sqrt((robust(seen.magnitudes("JPLUS", nine)[1]) ** 2).mean()) < 0.0048
    # The shipped file is what these pairs teach.
    shipped = data.coefficients @ (data.instrument.default_design + standard.change)
    again = data.coefficients @ (data.instrument.default_design + made.correction.change)
    smooth = smoothing(data.instrument)
    used = judged(data.instrument)
    np.testing.assert_allclose((shipped @ smooth)[:, used], (again @ smooth)[:, used], rtol=3e-3)


def test_numbers_of_settings_by_name() -> None:
    assert LinearSettings().changed({"ridge": 0.03, "power": 0.5}) == LinearSettings(ridge=0.03, power=0.5)
    for name in ("rigde", "dust"):
        with pytest.raises(ValueError, match=f"no setting {name}; there are .*ridge"):
            LinearSettings().changed({name: 1.0})


@pytest.mark.slow
def test_what_was_trained_is_told_and_drawn(trained: Trained) -> None:
    assert trained.report().splitlines()[-1].startswith("trained on 20 pairs: the others' median RMS is ")
    assert len(trained.plot().axes) == 7
    with pytest.raises(ValueError, match="name='standard': this name is taken"):
        train_linear("absent.parquet", name="standard")
