"""Networks multiplied into passbands: series in E(B-V)."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

import xpjax
from tests.wiggles.helpers import ANY, made_model, star_features, stars
from xpjax.wiggles.magnitude import corrected_photometry


@pytest.mark.slow
def test_high_reddening_needs_more_terms_and_gets_them() -> None:
    model = made_model()
    sources = stars()[:40]
    table = dataclasses.replace(star_features()[:40], ebv=np.linspace(0, 4, 40))
    curves = xpjax.load_passbands("JPLUS:gJPLUS,iJPLUS")
    options = {"system": xpjax.passband_system(curves), "errors": False, "limits": ANY}
    together = corrected_photometry(sources, curves, model, table, **options)
    alone = [
        corrected_photometry(sources[k : k + 1], curves, model, table[np.array([k])], float64=True, **options).magnitude
        for k in (0, 20, 39)
    ]
    np.testing.assert_allclose(together.magnitude[[0, 20, 39]], np.concatenate(alone), atol=3e-5)
