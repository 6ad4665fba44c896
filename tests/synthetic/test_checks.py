"""What is said of passbands before they are used: tables, coverage, findings."""

from __future__ import annotations

import numpy as np
import pytest

import xpjax
from tests.synthetic.helpers import gaussian
from xpjax.synthetic.checks import check_passbands, describe_coverage, describe_passbands
from xpjax.synthetic.passband import PassbandSet


def test_the_table_has_what_the_passbands_say() -> None:
    chosen = PassbandSet("Mine", (gaussian(1.0, name="a"), gaussian(1.0, name="b", magnitude="Vega")))
    table = describe_passbands(chosen)
    assert table.meta["label"] == "Mine"
    assert "residual" not in table.colnames
    for name, column in (("mean", "mean_wavelength"), ("pivot", "pivot_wavelength"), ("fwhm", "fwhm")):
        assert table[name].tolist() == [getattr(band, column) for band in chosen]
        assert table[name].unit == "nm"
    assert table["zero_point"][0] == -56.10
    assert np.isnan(table["zero_point"][1])
    recovered = describe_passbands(xpjax.load_passbands("JPLUS:uJAVA"))
    assert recovered["outside"][0] == xpjax.load_passbands("JPLUS:uJAVA")["uJAVA"].cut_off > 0.05
    assert recovered["residual"][0] < 1e-5


def test_coverage() -> None:
    assert describe_coverage(PassbandSet("Mine", (gaussian(1.0),))) == []
    blue = PassbandSet("Mine", (gaussian(1.0, 345.0, 12.0),))
    (missed,), (extended,) = describe_coverage(blue), describe_coverage(blue, "linear")
    assert missed.endswith("% of the passband lies outside 330..1050 nm, and is missed")
    assert "is extrapolated to 322 nm" in extended
    (cut,) = describe_coverage(xpjax.load_passbands("JPLUS:uJAVA"))
    assert "recovered within 330..1050 nm, 7.83 % of the published band lies outside" in cut


@pytest.mark.parametrize(
    ("band", "usable", "message"),
    [
        (gaussian(1.0, name="v", magnitude="Vega"), False, "refused: passband v has Vega magnitudes but no zero point"),
        (gaussian(1.0, 345.0, 12.0), True, 'fluxes miss that light; extrapolate="linear" leaves'),
        (gaussian(12.0), True, "a step of 12 nm"),
    ],
)
def test_findings(band: xpjax.Passband, usable: bool, message: str) -> None:
    check = check_passbands(PassbandSet("Mine", (band,)))
    assert check.usable is usable
    assert any(message in f"{'refused: ' * found.refused}{found.text}" for found in check.findings), check
    assert message in str(check)


def test_nothing_is_found() -> None:
    check = check_passbands(PassbandSet("Mine", (gaussian(1.0), gaussian(1.0, name="b"))))
    assert (check.usable, check.findings, str(check)) == (True, (), "Mine: 2 passbands, all can be used")


def test_unknown_kinds_are_remarked_on() -> None:
    band = xpjax.Passband("g", [480, 485, 490, 495, 500], [0, 0.5, 0.8, 0.5, 0], meta={"kind": "gaussian"})
    check = check_passbands(xpjax.load_passbands(band))
    assert check.usable
    assert [found.text for found in check.findings] == [
        "kind 'gaussian' is not one of measured, fitted, recovered, computed, stand-in: "
        'load_passbands(..., meta={"kind": ...})'
    ]


def test_shipped_passbands_are_no_systems() -> None:
    with pytest.raises(xpjax.XpjaxError, match=r"passbands that are shipped: load_passbands\('minisitian'\)"):
        xpjax.load_system("MiniSiTian")
