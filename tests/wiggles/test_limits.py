"""Stars that a network does not correct, and why."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

import xpjax
from tests.wiggles.helpers import made_model, star_features, stars
from xpjax.core.status import Status
from xpjax.wiggles.limits import Limits, applicable
from xpjax.wiggles.magnitude import corrected_photometry
from xpjax.wiggles.spectra import correct_spectra


def test_what_is_not_corrected_passes_through_flagged() -> None:
    model, sources = made_model(), stars()[:8]
    table = star_features()[:8]
    value, ebv = table.value.copy(), table.ebv.copy()
    value[0, 3] = np.nan
    value[1, 7] = model.high[7] + 1
    ebv[2] = np.nan
    table = dataclasses.replace(table, value=value, ebv=ebv)
    teff, mh = np.full(8, 5000.0), np.zeros(8)
    teff[3], mh[4], teff[5] = 9000, -2.6, np.nan
    options = {"teff": teff, "mh": mh}
    apply, bits = applicable(model, table, **options)
    reasons = [Status.FEATURE_MISSING, Status.OUTSIDE_TRAINING, Status.FEATURE_MISSING, *[Status.OUTSIDE_LIMITS] * 2]
    np.testing.assert_array_equal(bits[:5], [int(b | Status.NOT_CORRECTED) for b in reasons])
    assert not bits[5:].any()
    spectra = xpjax.spectra(sources, errors=False)
    found = correct_spectra(spectra, model, table, **options)
    np.testing.assert_allclose(found.flux[~apply], spectra.flux[~apply], rtol=1e-6)
    assert np.all(np.abs(found.flux[apply] - spectra.flux[apply]).max(axis=1) > 0)
    np.testing.assert_array_equal(found.status, bits)
    plain = xpjax.photometry(sources, "JPLUS", errors=False)
    mags = corrected_photometry(sources, "JPLUS", model, table, errors=False, **options)
    np.testing.assert_allclose(mags.magnitude[~apply], plain.magnitude[~apply], atol=1e-5)
    np.testing.assert_array_equal(mags.status & np.uint32(Status.NOT_CORRECTED) != 0, ~apply)
    limits = Limits(teff=None, mh=None, av=0.0)
    assert not applicable(model, table, limits=limits)[0].any()


@pytest.mark.parametrize(
    ("change", "match"),
    [
        ({"source_id": np.arange(8)}, "not of these sources"),
        ({"names": tuple("abcdefghijklmn")}, "are needed"),
        ({"ebv": None}, "dereddens"),
    ],
)
def test_wrong_features(change: dict, match: str) -> None:
    table = dataclasses.replace(star_features()[:8], **change)
    with pytest.raises(ValueError, match=match):
        correct_spectra(xpjax.spectra(stars()[:8], errors=False), made_model(), table)
    with pytest.raises(ValueError, match=match):
        corrected_photometry(stars()[:8], "JPLUS", made_model(), table)
