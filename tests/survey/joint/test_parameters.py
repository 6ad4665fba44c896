"""Parameters of a transmission over the field and by amplifier: parts, nodes, passbands at places, refusals."""

import dataclasses
from typing import Any

import numpy as np
import pytest

from benchmarks.joint import BANDS, Nights, drifting
from xpjax.survey.exposures.model import ExposureModel, scaling
from xpjax.survey.joint.blocks import frame_groups, row_groups
from xpjax.survey.joint.parameters import FittedParameter, Nodes, Parameter
from xpjax.survey.joint.problem import JointModel
from xpjax.survey.joint.solve import solve_joint
from xpjax.survey.joint.terms import Term, ZeroPoint
from xpjax.survey.joint.transmission import PreparedTransmission, Transmission
from xpjax.survey.observations import Observations, make_observations
from xpjax.synthetic.magnitude import photometry


@pytest.fixture(scope="module")
def nights() -> Nights:
    """Exposures of two nights, with places on the detector and two amplifiers."""
    made = drifting(2, 60, seed=0, bands=BANDS[:1])
    o, rng = made.observations, np.random.default_rng(0)
    x, y = rng.uniform(0, 1000, len(o)), rng.uniform(0, 800, len(o))
    placed = dataclasses.replace(o, x=x, y=y, amplifier=(x > 500).astype(np.int32))
    return dataclasses.replace(made, observations=placed)


def places(x: Any, y: Any, **more: Any) -> Observations:
    return make_observations(np.arange(len(x)), x, y, np.full(len(x), 15.0), np.full(len(x), 0.01), None, **more)


def test_parts_of_a_field() -> None:
    o = places([0.0, 400.0, 200.0, 400.0], [0.0, 200.0, 100.0, 100.0])
    scale = scaling(o, ExposureModel(), (0.0, 400.0, 0.0, 200.0))
    radial = Parameter(field="radial", order=4).basis(o, scale)
    assert list(radial) == ["r2", "r4"]
    np.testing.assert_allclose(radial["r2"], [1, 1, 0, 0.8])  # one at the corners
    np.testing.assert_allclose(radial["r4"], [1, 1, 0, 0.64])
    moved = Parameter(field="radial", center=(400.0, 100.0)).basis(o, scale)
    np.testing.assert_allclose(moved["r2"], [3.4, 0.2, 0.8, 0])
    polynomial = Parameter(field="polynomial", order=2).basis(o, scale)
    assert list(polynomial) == ["x", "y", "x2", "x y", "y2"]
    np.testing.assert_allclose(polynomial["x y"], [1, 1, 0, 0])
    assert Parameter().basis(o, scale) == {}


def test_rows_by_amplifier() -> None:
    x = np.arange(6.0)
    o = places(x, x, band=["g", "g", "r", "r", "r", "g"], amplifier=["a", "b", "b", "b", "a", "a"])
    groups = row_groups(o, "band+amplifier")
    assert groups.labels == ("g amplifier 0", "g amplifier 1", "r amplifier 0", "r amplifier 1")
    assert groups.index.tolist() == [0, 1, 3, 3, 2, 0]
    assert groups.keys["band"].tolist() == ["g", "g", "r", "r"]
    assert row_groups(o, "amplifier").labels == ("amplifier 0", "amplifier 1")
    assert row_groups(o, "amplifier").index.tolist() == [0, 1, 1, 1, 0, 0]
    with pytest.raises(ValueError, match="'amplifer' is not one of"):
        frame_groups(o.frames, "band+amplifer")


@pytest.mark.parametrize(
    ("said", "message"),
    [
        ({"order": 2}, r"order of a parameter has no effect without field"),
        ({"field_prior": 1.0}, r"field_prior of a parameter has no effect without field"),
        ({"center": (1.0, 2.0)}, r"center of a parameter has no effect without field"),
        ({"field": "zernike"}, r'"radial" or "polynomial", not \'zernike\''),
        ({"field": "radial", "order": 3}, r"one of \(2, 4, 6, 8\), not 3"),
        ({"field": "polynomial", "order": 0}, r"one of \(1, 2, 3, 4, 5, 6\), not 0"),
        ({"field": "polynomial", "center": (1.0, 2.0)}, r"center has no effect on a polynomial field"),
        ({"field": "radial", "center": (1.0,)}, r"x and y \[pixel\]"),
        ({"prior": -1.0}, r"must be a standard deviation above zero"),
        ({"field": "radial", "field_prior": 0.0}, r"must be a standard deviation above zero"),
    ],
)
def test_what_cannot_be_is_refused(said: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Parameter(**said)


def test_a_term_in_toml() -> None:
    said = {"per": "band", "prior": 2.0, "field": "radial", "order": 4, "center": [4600, 4620.5], "field_prior": 3.0}
    entry = {"name": "filters", "chain": "t.toml", "sources": "xp.parquet", "parameters": {"filter_shift": said}}
    term = Transmission.from_entry(entry)
    one = Parameter("band", 2.0, "radial", 4, (4600.0, 4620.5), 3.0)
    assert term.parameters == {"filter_shift": one}
    assert term.needs == ("x", "y")
    assert Transmission.from_entry({n: v for n, v in term.entry().items() if n != "kind"}) == term
    assert repr(Parameter("night", 3.0)) == "Parameter(per='night', prior=3.0)"
    assert Transmission("t", "s", {"filter_shift": Parameter("band+amplifier")}).needs == ("amplifier",)
    many = {name: Parameter(field="radial") for name in ("filter_shift", "filter_scale", "water", "ozone")}
    with pytest.raises(ValueError, match="at most 3 parameters"):
        Transmission("telescope.toml", "xp.parquet", many)
    with pytest.raises(ValueError, match=r"unknown entry .*feild"):
        Transmission.from_entry({**entry, "parameters": {"filter_shift": {"feild": "radial"}}})


def test_nodes_give_polynomials_of_the_parameters(nights: Nights) -> None:
    o = nights.observations[nights.observations.frame > 0]  # a frame without rows
    scale = scaling(o, ExposureModel())
    said = {"water": Parameter(), "filter_shift": Parameter(field="radial"), "filter_scale": Parameter("amplifier")}
    parameters = [FittedParameter.of(name, one, nights.chain, o, scale) for name, one in said.items()]
    values = [np.array([0.5]), np.array([1.0]), np.array([-2.0]), np.array([0.01, -0.01])]
    nodes = Nodes.of(parameters, values, o.frame, 2)
    assert nodes.change.shape == (2, 32, 3)
    assert np.isfinite(nodes.change).all()
    rows = np.arange(len(o))
    weight = nodes.weights(rows)
    np.testing.assert_allclose(weight.sum(axis=1), 1)
    square = ((o.x - scale.box[0, :2].mean()) ** 2 + (o.y - scale.box[0, 2:].mean()) ** 2) * 4
    square /= (scale.box[0, 1] - scale.box[0, 0]) ** 2 + (scale.box[0, 3] - scale.box[0, 2]) ** 2
    shift, width = 1 - 2 * square, np.where(o.amplifier == 0, 0.01, -0.01)
    at = nodes.change[o.frame]
    np.testing.assert_allclose((weight * at[:, :, 1] ** 5 * at[:, :, 2]).sum(axis=1), shift**5 * width, atol=1e-12)
    np.testing.assert_allclose((weight * at[:, :, 0]).sum(axis=1), 0.5)


CASES = {
    "filter_shift": Parameter("night", field="radial", order=4),
    "filter_scale": Parameter("night+amplifier", field="polynomial", order=1),
}


@pytest.fixture(scope="module")
def prepared(nights: Nights) -> PreparedTransmission:
    term = Transmission(nights.chain, nights.exact, {"water": Parameter(), **CASES}, star_prior=False)
    return term.prepare(nights.observations)


VALUES = [[0.7], [1.0, -1.0], [-5.0, -6.0], [-1.5, 2.0], [0.01, -0.01, 0.0, 0.005], [0.01] * 4, [-0.005] * 4]


def test_passbands_at_every_place(nights: Nights, prepared: PreparedTransmission) -> None:
    """Shifts of 5 nm: within 0.05 mmag of synthetic photometry through the chain of each place."""
    o = nights.observations
    values = [np.array(v) for v in VALUES]
    added = prepared.linearize(values).added
    names = [block.name for block in prepared.blocks]
    assert names[1:4] == [f"transmission filter_shift{part}" for part in ("", " r2", " r4")]
    shift, scale = (
        one.of_rows(v, o.frame) for one, v in zip(prepared.parameters[1:], (values[1:4], values[4:]), strict=True)
    )
    assert shift.min() < -4.5
    rows = np.concatenate([np.argsort(shift)[:3], np.argsort(scale)[-3:], [5, 100]])
    for i in rows.tolist():
        k = o.frame[i]
        moved = nights.chain.with_parameters(
            airmass=o.frames.airmass[k], water=3.7, filter_shift=shift[i], filter_scale=1 + scale[i]
        )
        star, band = nights.exact[prepared.star[i] : prepared.star[i] + 1], str(o.frames.band[k])
        own, nominal = (
            photometry(star, chain.passbands()[[band]], errors=False, float64=True).magnitude[0, 0]
            for chain in (moved, nights.chain)
        )
        assert added[i] == pytest.approx(nominal - own, abs=5e-5)
        assert abs(nominal - own) > 1e-3


def test_derivatives_over_the_field(prepared: PreparedTransmission) -> None:
    values = [np.array(v) for v in VALUES]
    slopes = prepared.linearize(values).slopes
    for k, step in enumerate([1e-3] * 4 + [1e-5] * 3):
        ends = [prepared.linearize([v + s * step * (j == k) for j, v in enumerate(values)]).added for s in (-1, 1)]
        found = (ends[1] - ends[0]) / (2 * step)
        np.testing.assert_allclose(slopes[k], found, atol=3e-3 * np.abs(found).max())


def test_without_a_field_nothing_is_interpolated(nights: Nights) -> None:
    """To the bit what one projection a frame gives."""
    o = nights.observations
    said = {"water": Parameter("night"), "filter_shift": Parameter("all"), "filter_scale": Parameter("night")}
    prepared = Transmission(nights.chain, nights.exact, said, star_prior=False).prepare(o)
    values = [np.array([0.5, -0.5]), np.array([-2.0]), np.array([0.01, 0.02])]
    change = np.stack([v[one.groups.index] for v, one in zip(values, prepared.parameters, strict=True)], axis=1)
    projection, slope = prepared._projections(change[:, None])
    reference = np.stack([prepared.reference[str(band)] for band in o.frames.band])
    columns = np.concatenate([projection, reference[:, None], np.swapaxes(slope[:, 0], 1, 2)], axis=1)
    product = prepared.coefficients @ columns.reshape(-1, columns.shape[2]).T
    flux = product.reshape(len(product), len(o.frames), -1)[prepared.star, o.frame]
    about = prepared.linearize(values)
    np.testing.assert_array_equal(about.added, 2.5 * np.log10(flux[:, 0] / flux[:, 1]))
    np.testing.assert_array_equal(about.slopes, 2.5 / np.log(10) * flux[:, 2:].T / flux[:, 0])


def test_rows_without_a_place_are_left_out_alone(nights: Nights) -> None:
    o = nights.observations
    x = np.where(np.arange(len(o)) % 11 == 0, np.nan, o.x)
    term = Transmission(nights.chain, nights.seen, {"filter_shift": Parameter("all", 2.0, "radial", field_prior=2.0)})
    terms = (ZeroPoint(), term)
    found = solve_joint(dataclasses.replace(o, x=x), model_of(terms))
    assert not found.used[::11].any()
    assert np.delete(found.used, np.s_[::11]).all()
    # The same solution is applied to rows of another catalogue, whose places are those of the solution's detector.
    some = o[np.flatnonzero(np.arange(len(o)) % 7 == 1)]
    added, error = found.correction(some)
    whole, _ = found.correction(o, errors=False)
    np.testing.assert_allclose(added, whole[1::7], atol=1e-12)
    assert (error > 0).all()


def model_of(terms: tuple[Term, ...]) -> JointModel:
    return JointModel(terms, robust="none", clip=0.0, error_floor=0.0, min_observations=1)


def test_what_tables_say_of_parts(nights: Nights) -> None:
    """Meaning, place and unit, as the chain and the field have them."""
    o = nights.observations
    scale = scaling(o, ExposureModel(), (0.0, 1000.0, 0.0, 800.0))

    def said(name: str, **field: Any) -> dict[str, tuple[str, str]]:
        own = FittedParameter.of(name, Parameter(**field), nights.chain, o, scale)
        blocks = own.blocks("transmission", o.frame, iter([np.ones(len(o))] * own.n_part))
        return {block.parts[0].name: (block.parts[0].unit, block.parts[0].description) for block in blocks}

    assert said("water") == {"water": ("mm", "Precipitable water at the zenith, less the chain's")}
    assert said("detector_slope")["detector_slope"][0] == "(100 nm)-1"
    assert said("filter_shift", field="radial") == {
        "filter_shift": ("nm", "Shift of each filter to the red, less the chain's, at the optical center"),
        "filter_shift r2": (
            "nm",
            "Shift of each filter to the red, change as radius^2 from the optical center to half the detector's "
            "diagonal from it",
        ),
    }
    polynomial = said("filter_scale", field="polynomial", order=1)
    assert polynomial["filter_scale x"] == (
        "", "Factor on each filter's width about its mean wavelength, Chebyshev coefficient of T1(x) over the detector"
    )  # fmt: skip
