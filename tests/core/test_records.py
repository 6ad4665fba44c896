"""What records say of themselves."""

import numpy as np

import xpjax
from xpjax.core.records import Catalogue
from xpjax.survey.simulate import Setup, Survey
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
    observations, _ = Survey(Setup(n_exposure=2, n_star=20)).observe()
    assert "frames=Frames(...)" in repr(observations)
    assert f"star=int64[{len(observations)}]" in repr(observations)
