"""Passbands by name, from files and chains, with other names, parameters and zero points."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import xpjax
from tests.synthetic.helpers import gaussian
from xpjax.synthetic.chain_file import read_chain
from xpjax.synthetic.files.passband_files import write_passbands
from xpjax.synthetic.loading import curves_of, load_passbands
from xpjax.synthetic.published import published_name


def test_names_bands_and_objects() -> None:
    assert load_passbands("SDSS_2010:r,g").names == ("r", "g")
    chain = read_chain("minisitian")
    assert load_passbands(chain).label == load_passbands("minisitian").label == "MiniSiTian"
    band = gaussian(1.0)
    assert load_passbands(band).passbands == (band,)
    assert load_passbands(load_passbands(band)).label == "made"


def test_a_chain_with_other_parameters() -> None:
    chain = read_chain("minisitian")
    expected = chain.with_parameters(airmass=2.0).passbands()["g"]
    for source in ("minisitian", chain):
        made = load_passbands(source, parameters={"airmass": 2.0}, label="low", names=["a", "b", "c"])
        assert (made.label, made.names) == ("low", ("a", "b", "c"))
        np.testing.assert_array_equal(made["a"].transmission, expected.transmission)


def test_zero_points_and_metadata() -> None:
    made = load_passbands("sdss2010:g,r", zero_points=[-56.0, -56.2], meta={"kind": "fitted"})
    assert [band.flux_zero_point for band in made] == [-56.0, -56.2]
    assert {band.meta["kind"] for band in made} == {"fitted"}


@pytest.mark.parametrize(
    ("source", "options", "message"),
    [
        ("sdss2010", {"parameters": {"airmass": 2}}, "parameters= changes a transmission chain, and sdss2010 is none"),
        ("minisitian", {"clip": True}, "clip=: for curves, and minisitian describes a chain"),
        ("minisitian", {"parameters": {"airmas": 2}}, "did you mean 'airmass'"),
        (["minisitian", "g.dat"], {}, "minisitian is a transmission chain"),
        ("sdss2010:q", {}, "sdss2010 has no passband 'q'"),
        ("sdss2010:g,r", {"names": ["a"]}, "names= gives 1 names for the 2 bands"),
        ("sdss2010:g,r", {"names": "ab"}, "names= gives 1 names for the 2 bands"),
        ("sdss2010:g,r", {"zero_points": [1.0]}, "zero_points= gives 1 numbers for the 2 bands"),
        ("sdss2010:g", {"magnitude": "AB", "vega_spectrum": "vega.fits"}, "leave out magnitude= and zero_points="),
        ("nosuch", {}, "no file or folder 'nosuch'"),
    ],
)
def test_refusals(source: Any, options: dict[str, Any], message: str) -> None:
    with pytest.raises(xpjax.XpjaxError, match=message):
        load_passbands(source, **options)


def test_curves_of_a_system_are_given_or_recovered(tmp_path: Path) -> None:
    given = load_passbands("sdss2010:g")
    system = xpjax.synthetic.as_system(["JPLUS:gJPLUS", given])
    recovered, own = curves_of(system, [given])
    assert own is given["g"]
    assert recovered.meta["kind"] == "recovered"
    assert published_name("jplus") == "JPLUS"
    assert published_name("mine") is None
    write_passbands(tmp_path / "mine", load_passbands(gaussian(1.0), label="Mine"))
    with pytest.raises(xpjax.XpjaxError, match="Mine made has no transmission curve"):
        curves_of(xpjax.passband_system(load_passbands(tmp_path / "mine")))
