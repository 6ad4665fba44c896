"""Magnitudes of corrected spectra, without forming them.

Seen through a passband the additive term of a correction (see `xpjax.wiggles.network`) is

    <f 10^(0.4 A)> sum_j w_j q_j(E),   q_j(E) = int hat_j T l^p 10^(-0.4 A) dl / norm

and w = h W with the last layer W. q and the mean's row of the coefficients are Chebyshev series in E(B-V), exact to
1e-8, and W is multiplied into them beforehand: a star costs its hidden layers and two small products.
"""

from __future__ import annotations

import dataclasses
import functools
import itertools
from collections.abc import Sequence
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from xpjax.core import engine
from xpjax.core.constants import FLUX_UNIT, MERGE_RANGE, POGSON, XP_RANGE
from xpjax.core.errors import XpjaxError, say
from xpjax.core.linalg import dot
from xpjax.core.records import AnyArray
from xpjax.core.status import Status
from xpjax.synthetic import (
    Passband,
    PassbandSet,
    Photometer,
    PhotometricSystem,
    Photometry,
    band_weights,
    corrected_system,
    curves_of,
    interpolation,
    load_passbands,
    passband_system,
    photometry_kernel,
    published_name,
    select_bands,
)
from xpjax.synthetic import load_system as load_system
from xpjax.wiggles.features import COLUMNS, EBV, GAIA, SKYMAPPER, Features, combination, floats, make_features
from xpjax.wiggles.network import (
    Limits,
    Network,
    Star,
    WiggleCorrection,
    applicable,
    check_base,
    check_features,
    check_gaia,
    spread,
    star_inputs,
    table_axes,
)
from xpjax.xp import (
    Instrument,
    LinearCorrection,
    SourceTable,
    XPCoefficients,
    as_sources,
    load_correction,
    masked,
    named_correction,
    run_guarded,
    usable,
)
from xpjax.xp import load_instrument as load_instrument

SHORTEST, LONGEST = 12, 48
"""Terms of a series that are tried; 48 are more than any E(B-V) up to 10 needs."""
SERIES = 1e-8
"""Where the series in E(B-V) end, relative to their largest term."""
FINE = 1.0
"""Longest step [nm] between samples of a multiplicative correction."""


class FoldedCorrection(eqx.Module):
    """A correction multiplied into passbands: all that its part in their fluxes needs.

    Additive: last (n_network, n_hidden + 1, n_term * n_band) scaled fluxes per normalised flux, the last row for the
    bias; mean (n_basis_total, n_term), the row of the mean flux [FLUX_UNIT]; terms of Chebyshev series in E(B-V) over
    ebv_range (2,). Multiplicative: sample (n_basis_total, n_fine), fine samples of the flux; w there is the output at
    below (n_fine,) and the next wavelength with weights share (2, n_fine); band (n_fine, n_band) sees their product.
    systematic (n_node, n_band) or None: the table's nodes seen through the bands, per mean flux.
    """

    networks: tuple[Network, ...]
    last: Float[AnyArray, "n_network n_hidden n_out"] | None
    mean: Float[AnyArray, "n_basis_total n_term"]
    sample: Float[AnyArray, "n_basis_total n_fine"] | None
    band: Float[AnyArray, "n_fine n_band"] | None
    below: Int[AnyArray, " n_fine"] | None
    share: Float[AnyArray, "2 n_fine"] | None
    ebv_range: Float[AnyArray, " 2"]
    per_input: Float[AnyArray, "n_input n_feature"] | None
    systematic: Float[AnyArray, "n_node n_band"] | None


def fold(
    model: WiggleCorrection,
    bands: Sequence[Passband],
    system: PhotometricSystem,
    *,
    ebv_range: tuple[float, float] = (0.0, 1.0),
    instrument: Instrument | None = None,
    base: Any = None,
) -> FoldedCorrection:
    """Fold the last layer, the passbands and the reddening of E(B-V) within a range into one matrix, on the host.

    bands: the curves, in the order of the system's bands, whose scales the result has. base: the linear correction that
    the model stands on, see `Correcting`. It takes a fifth of a second.
    """
    chosen = (instrument or load_instrument()).corrected(named_correction(model.base, base))
    own = np.asarray(model.wavelength, float)
    design = chosen.design(own)
    sampled = np.asarray(design.value) * (float(design.scale) / FLUX_UNIT)
    low, high = ebv_range
    high = max(high, low + 1e-3)
    parts = [_band_nodes(model, band) for band in bands]
    unit = FLUX_UNIT / np.asarray(system.scale, float)
    a = model.exponent(own)
    # The factor common to all wavelengths cancels between the mean flux and the reddening of its term.
    middle = float(a.mean())

    def seen(ebv: float) -> np.ndarray:
        """Scaled flux (n_wavelength, n_band) of w = 1 at each wavelength, per mean flux."""
        columns = [h.T @ (q * np.exp(-(e - middle) * ebv)) for h, q, e in parts]
        return np.stack(columns, axis=1) * unit

    def mean_row(ebv: float) -> np.ndarray:
        return sampled @ np.exp((a - middle) * ebv) / len(own)

    systematic = None
    if model.systematic is not None:
        table = np.asarray(model.systematic.value)
        at = np.asarray(model.systematic.ebv, float) if model.dereddens else np.zeros(table.shape[2])
        through = np.stack([table[:, :, k] @ np.abs(seen(float(e))) for k, e in enumerate(at)], axis=2)
        systematic = through.reshape(-1, through.shape[-1])
    scaled = combination(model.names) / np.asarray(model.feature_scale)
    if model.kind == "multiplicative":
        return _fold_product(model, bands, unit, chosen, scaled)
    # Both series have as many terms as the longer one needs.
    series = [_chebyshev(function, low, high, not model.dereddens) for function in (seen, mean_row)]
    n_term = max(len(s) for s in series)
    through, mean = (np.concatenate([s, np.zeros((n_term - len(s), *s.shape[1:]))]) for s in series)
    hidden = [Network((*n.weight[:-1], np.zeros((0, 0))), (*n.bias[:-1], np.zeros(0))) for n in model.networks]
    last = [
        np.concatenate([np.asarray(n.weight[-1], float), np.asarray(n.bias[-1], float)[None]]) for n in model.networks
    ]
    product = np.stack([np.einsum("hj,kjb->hkb", w, through).reshape(len(w), -1) for w in last])
    limits = np.array([low, high])
    return FoldedCorrection(tuple(hidden), product, mean.T, None, None, None, None, limits, scaled, systematic)


def _fold_product(
    model: WiggleCorrection, bands: Sequence[Passband], unit: np.ndarray, instrument: Instrument, per_input: np.ndarray
) -> FoldedCorrection:
    """The multiplicative case: f w is sampled finely, and a local cubic between samples."""
    own, blend = np.asarray(model.wavelength, float), float(model.blend)
    ends = np.clip([own[0] - blend, own[-1] + blend], *XP_RANGE)
    knots = np.unique(np.concatenate([ends[:1], own, ends[1:]]))
    pieces = [np.linspace(a, b, int(np.ceil((b - a) / FINE)) + 1)[:-1] for a, b in itertools.pairwise(knots)]
    fine = np.concatenate([*pieces, ends[1:]])
    design = instrument.design(fine)
    matrix = model.interpolation(fine)
    below = np.clip(np.searchsorted(own, fine, side="right") - 1, 0, len(own) - 2)
    rows = np.arange(len(fine))
    dense = matrix.toarray()
    through = []
    for band in bands:
        x, seen = _seen(band, fine, (fine[0], fine[-1]))
        through.append(interpolation(fine, x).T @ seen)
    return FoldedCorrection(
        model.networks,
        None,
        np.zeros((design.value.shape[0], 1)),
        np.asarray(design.value) * (float(design.scale) / FLUX_UNIT),
        np.stack(through, axis=1) * unit,
        below.astype(np.int32),
        np.stack([dense[rows, below], dense[rows, below + 1]]),
        np.array([0.0, 1.0]),
        per_input,
        None,
    )


def _band_nodes(model: WiggleCorrection, band: Passband) -> tuple[Any, np.ndarray, np.ndarray]:
    """At the nodes of a passband's integral: w's matrix, flux seen per flux [W m-2 nm-1], and the dust's exponent."""
    own, blend = np.asarray(model.wavelength, float), float(model.blend)
    x, seen = _seen(band, own, (own[0] - blend, own[-1] + blend))
    return model.interpolation(x), seen, model.exponent(x)


def _seen(band: Passband, breaks: np.ndarray, ends: tuple[float, float]) -> tuple[np.ndarray, np.ndarray]:
    """Nodes (m,) within ends [nm], and the flux seen (m,) [band.flux_unit] for unit flux [W m-2 nm-1] at each."""
    x, weight = band_weights(band, np.concatenate([breaks, ends, XP_RANGE, MERGE_RANGE]))
    inside = (x > max(ends[0], XP_RANGE[0])) & (x < min(ends[1], XP_RANGE[1]))
    return x[inside], weight[inside]


def _chebyshev(function: Any, low: float, high: float, constant: bool) -> np.ndarray:
    """Coefficients (n_term, ...) of a function of E(B-V) on [low, high] in Chebyshev polynomials."""
    if constant:
        return np.stack([function(0.0)])
    n = SHORTEST
    while True:
        nodes = np.cos(np.pi * (np.arange(n) + 0.5) / n)
        values = np.stack([function(0.5 * (low + high) + 0.5 * (high - low) * t) for t in nodes])
        basis = np.polynomial.chebyshev.chebvander(nodes, n - 1)
        series = np.tensordot(basis.T, values, 1) * (2.0 / n)
        series[0] *= 0.5
        size = np.abs(series).reshape(n, -1)
        needed = int(np.flatnonzero((size > SERIES * size.max(axis=0)).any(axis=1))[-1])
        # The last terms must be small already, or the nodes are too few.
        if needed < n - 2 or n >= LONGEST:
            return series[: needed + 1]
        n *= 2


def _polynomials(folded: FoldedCorrection, ebv: Array) -> Array:
    """Chebyshev polynomials (n_term,) at E(B-V)."""
    low, high = folded.ebv_range[0], folded.ebv_range[1]
    t = (2 * ebv - low - high) / (high - low)
    n = folded.mean.shape[-1]
    values = [jnp.ones_like(t), t]
    for _ in range(n - 2):
        values.append(2 * t * values[-1] - values[-2])
    return jnp.stack(values[:n])


class _Observed(eqx.Module):
    """One star as corrected photometry takes it."""

    coefficients: XPCoefficients
    star: Star
    nodes: Float[AnyArray, " n_node"] | None


@functools.cache
def corrected_kernel(truncate: bool = False, errors: bool = False, guard: bool = True) -> engine.Kernel:
    """The kernel ((PhotometricSystem, FoldedCorrection), star) -> as `photometry_kernel`, corrected, and systematic."""
    plain = photometry_kernel(truncate, errors, guard=guard)

    def kernel(constants: tuple[PhotometricSystem, FoldedCorrection], source: _Observed) -> dict[str, Array]:
        bands, folded = constants
        star = source.star
        out = plain(bands, source.coefficients)
        value = source.coefficients.value
        apply = star.apply
        if bands.domain is not None:
            # Beyond the linear correction's domain a spectrum is not what the network learned from.
            apply &= out["distance"] <= bands.domain.limit
        if guard:
            # A mean needs the whole spectrum.
            apply &= jnp.all(usable(source.coefficients))
            value = masked(source.coefficients, truncate).value
        n_band = bands.n_band
        if folded.last is None:
            assert folded.sample is not None
            assert folded.band is not None
            assert folded.below is not None
            assert folded.share is not None
            sampled, band, below, share = dot(value, folded.sample), folded.band, folded.below, folded.share

            def terms(x: Array) -> Array:
                w = [network(x) for network in folded.networks]
                return jnp.stack([dot((v[below] * share[0] + v[below + 1] * share[1]) * sampled, band) for v in w])

            mean = jnp.zeros(())
        else:
            polynomials = _polynomials(folded, jnp.asarray(star.ebv))
            mean = dot(dot(value, folded.mean), polynomials)
            last = folded.last

            def terms(x: Array) -> Array:
                each = [
                    dot(network.hidden(x), w[:-1]) + w[-1] for network, w in zip(folded.networks, last, strict=True)
                ]
                return mean * dot(polynomials, jnp.stack(each).reshape(len(each), -1, n_band))

        x = jnp.asarray(star.x)
        each = terms(x)
        term = jnp.where(apply, each.mean(0), 0)
        raw = out["flux"] / bands.scale
        flux = raw + term
        status = out["status"] & jnp.uint32(~int(Status.NONPOSITIVE_FLUX) & 0xFFFFFFFF)
        status |= jnp.where(jnp.any(flux <= 0), int(Status.NONPOSITIVE_FLUX), 0).astype(jnp.uint32)
        status |= jnp.where(apply, 0, int(Status.NOT_CORRECTED)).astype(jnp.uint32)
        good = flux > 0
        magnitude = jnp.where(good, -2.5 * jnp.log10(jnp.where(good, flux, 1)) + bands.scaled_zero_point, jnp.nan)
        result = {**out, "flux": flux * bands.scale, "magnitude": magnitude, "status": status}
        if errors:
            variance = (out["flux_error"] / bands.scale) ** 2
            if star.input_error is not None:
                slope = jax.vmap(lambda v: jax.jvp(lambda x: terms(x).mean(0), (x,), (v,))[1])(folded.per_input)
                variance += jnp.where(apply, jnp.sum((slope * star.input_error[:, None]) ** 2, axis=0), 0)
            error = jnp.sqrt(variance)
            result["flux_error"] = error * bands.scale
            result["magnitude_error"] = jnp.where(good, POGSON * error / flux, jnp.nan)
        if source.nodes is not None or len(folded.networks) > 1:
            left = spread(each) ** 2 if len(folded.networks) > 1 else jnp.zeros_like(flux)
            if source.nodes is not None:
                assert folded.systematic is not None
                left += (mean * dot(source.nodes, folded.systematic)) ** 2
            result["systematic"] = jnp.where(good & apply, POGSON * jnp.sqrt(left) / flux, jnp.nan)
        return result

    return kernel


@dataclasses.dataclass(frozen=True)
class CorrectedPhotometry(Photometry):
    """Photometry corrected by a network; left (n, n_band) [mag]: what the network leaves, apart from the errors.

    NaN where a star was not corrected, None where the model has neither table nor ensemble.
    """

    left: np.ndarray | None = None

    @property
    def systematic(self) -> np.ndarray | None:
        """What the network leaves; without its word, what the linear correction leaves that it stands on."""
        linear = super().systematic
        if self.left is None or linear is None:
            return linear if self.left is None else self.left
        return np.where(np.isnan(self.left), linear, self.left)


@dataclasses.dataclass(frozen=True)
class Correcting:
    """How magnitudes are corrected: the model, where the features come from, and the curves of the bands.

    bands: as many as the system's, in its order; None: those of `curves_of`. stars: features by source_id; None: made
    of the sources themselves, with ebv, the name of a column, and gaia "synthetic" or "columns" (see
    `xpjax.wiggles.features.features`). teff, mh: names of columns for the rules of `applicable`. feature_errors: the
    magnitudes' errors have the part that comes through the features, at the cost of eight more networks. base: the
    linear correction that the model stands on, needed where that is neither "none" nor "standard".
    """

    model: WiggleCorrection
    bands: tuple[Passband, ...] | None = None
    stars: Features | None = None
    ebv: str | None = None
    gaia: str = "synthetic"
    teff: str | None = None
    mh: str | None = None
    limits: Limits = dataclasses.field(default_factory=Limits)
    feature_errors: bool = False
    base: Any = None

    def __post_init__(self) -> None:
        needs = EBV in self.model.names or self.model.dereddens
        if self.stars is None and self.ebv is None and needs:
            raise XpjaxError(
                f"this correction needs E(B-V): name a column of the sources, by {say('ebv=', '--ebv')}, or give "
                "features (glossary: feature)"
            )
        if self.stars is not None:
            self.stars.select(self.model.names)
            check_features(self.model, self.stars)
        else:
            check_gaia(self.model, self.gaia)

    @functools.cached_property
    def linear(self) -> LinearCorrection | None:
        """The linear correction that the model stands on. Raises ValueError where it is not known."""
        return named_correction(self.model.base, self.base)

    @property
    def columns(self) -> tuple[str, ...]:
        """Columns of the sources that are needed."""
        names = [name for name in (self.teff, self.mh) if name is not None]
        if self.stars is None:
            names += [self.ebv] if self.ebv is not None else []
            needed = np.any(combination(self.model.names) != 0, axis=1)[len(SKYMAPPER) :]
            names += [
                COLUMNS[name] for name, used in zip(GAIA, needed, strict=False) if used and self.gaia == "columns"
            ]
        return tuple(dict.fromkeys(names))

    @property
    def ebv_range(self) -> tuple[float, float]:
        """The E(B-V) that are folded for: the training set's, or up to the limit of A_V."""
        model = self.model
        low = high = np.nan
        if EBV in model.names:
            k = model.names.index(EBV)
            low, high = float(np.asarray(model.low)[k]), float(np.asarray(model.high)[k])
        most = EBV_MOST if self.limits.av is None else self.limits.av / float(model.per_ebv)
        return min(low, 0.0) if np.isfinite(low) else EBV_LEAST, min(high, most) if np.isfinite(high) else most

    def features(self, table: SourceTable, errors: bool, **options: Any) -> Features:
        """Features of these sources. Raises ValueError for columns that are not there."""
        if self.stars is not None:
            return self.stars.matched(table.source_id)
        return make_features(
            table,
            self.model.names,
            ebv=self.ebv,
            gaia=self.gaia,
            truncate=self.model.truncate,
            errors=errors and self.feature_errors,
            correction=self.linear,
            **options,
        )


def linear_and_network(correction: Any) -> tuple[LinearCorrection | None, Correcting | None]:
    """What `correction` means where a network may be given too: "standard", "none", a file or a `LinearCorrection`; or
    a `Correcting`, whose network may stand on one. Raises ValueError."""
    if isinstance(correction, Correcting):
        return correction.linear, correction
    return load_correction(correction), None


EBV_LEAST, EBV_MOST = -0.2, 5.5
"""What is folded for where neither the training set nor a limit says."""


@dataclasses.dataclass(frozen=True)
class CorrectedPhotometer:
    """A `Photometer` whose magnitudes are those of corrected spectra; used as it is.

    Raises ValueError for systems with color equations or flux biases.
    """

    plain: Photometer
    how: Correcting
    folded: FoldedCorrection

    @staticmethod
    def prepare(plain: Photometer, how: Correcting, **options: Any) -> CorrectedPhotometer:
        """Fold the correction for a photometer; options go to `fold`. Raises ValueError."""
        bands = CorrectedPhotometer.check(plain, how)
        plain = dataclasses.replace(plain, truncate=how.model.truncate)
        folded = fold(how.model, bands, plain.system, **{"ebv_range": how.ebv_range, "base": how.linear} | options)
        return CorrectedPhotometer(plain, how, folded)

    @staticmethod
    def check(plain: Photometer, how: Correcting) -> tuple[Passband, ...]:
        """The curves of the photometer's bands. Raises ValueError where the correction does not fit it."""
        base = plain.system
        check_base(how.model, base.correction, "the system has")
        if base.color_equations or any(base.standardised):
            raise XpjaxError(
                f"{base.labels[0]} is standardised, with color equations or flux biases that do not hold for corrected "
                "spectra; use its plain system (glossary: color equation)"
            )
        if plain.error_correction:
            raise XpjaxError("the published factors on errors hold for uncorrected magnitudes: leave them out")
        bands = curves_of(base) if how.bands is None else how.bands
        names = tuple(band.name for band in bands)
        if base.names != names:
            raise XpjaxError(f"the system's bands {base.names} are not those of the passbands, {names}")
        return bands

    def __call__(self, table: SourceTable, *, devices: Any = None, **options: Any) -> CorrectedPhotometry:
        """Photometry of a table, as `Photometer` makes it."""
        stars = self.how.features(table, self.plain.errors, float64=self.plain.float64, devices=devices)
        labels = [None if name is None else floats(table, name) for name in (self.how.teff, self.how.mh)]
        return self.measure(table, stars, *labels, devices=devices, **options)

    def measure(
        self,
        table: SourceTable,
        stars: Features,
        teff: np.ndarray | None = None,
        mh: np.ndarray | None = None,
        *,
        devices: Any = None,
        progress: engine.Progress | None = None,
        batch_rows: int | None = None,
        guard_rows: int | None = None,
    ) -> CorrectedPhotometry:
        """Photometry of a table with these features; teff [K], mh [dex] (n,) where they are known."""
        model, folded, plain = self.how.model, self.folded, self.plain
        c, errors = plain.prepared(table)
        apply, bits = applicable(model, stars, teff=teff, mh=mh, limits=self.how.limits)
        if model.dereddens and stars.ebv is not None:
            low, high = np.asarray(folded.ebv_range)
            beyond = apply & ((stars.ebv < low) | (stars.ebv > high))
            bits[beyond] |= np.uint32(Status.OUTSIDE_LIMITS | Status.NOT_CORRECTED)
            apply &= ~beyond
        star = star_inputs(model, stars, apply, errors)
        nodes = None
        if folded.systematic is not None and model.systematic is not None:
            nodes = model.systematic.weights(*table_axes(stars))
        widest = sum(sum(n.widths) for n in model.networks) + np.size(folded.mean[0]) * plain.system.n_band
        out = run_guarded(
            lambda guard: corrected_kernel(model.truncate, errors, guard or model.truncate),
            (plain.bands(errors), folded),
            _Observed(c, star, nodes),  # type: ignore[arg-type]
            float64=plain.float64,
            devices=devices,
            work_bytes=int(4 * (widest + table.release.n_pair_total * errors) * (1 + plain.float64)),
            progress=progress,
            batch_rows=batch_rows,
            guard_rows=guard_rows,
        )
        out["status"] |= bits
        base = plain.finished(table, out)
        fields = {field.name: getattr(base, field.name) for field in dataclasses.fields(base)}
        fields["meta"] = {**base.meta, "corrected": True}
        return CorrectedPhotometry(**fields, left=out.get("systematic"))


def prepared(plain: Photometer, how: Correcting | None) -> Photometer | CorrectedPhotometer:
    """The photometer itself, or with a correction. Raises ValueError, see `CorrectedPhotometer`."""
    return plain if how is None else CorrectedPhotometer.prepare(plain, how)


def corrected_photometry(
    sources: Any,
    bands: Any,
    model: WiggleCorrection,
    stars: Features,
    *,
    system: PhotometricSystem | None = None,
    teff: np.ndarray | None = None,
    mh: np.ndarray | None = None,
    limits: Limits | None = None,
    errors: bool = True,
    extrapolate: str | None = None,
    instrument: Instrument | None = None,
    base: Any = None,
    float64: bool = False,
    devices: Any = None,
    progress: engine.Progress | None = None,
) -> CorrectedPhotometry:
    """Synthetic magnitudes of the corrected spectra, without forming them.

    sources as for `photometry`; bands: passbands, or what `passbands` takes: the name of a published system means its
    recovered curves, with its own projections for the uncorrected part. system: other projections of these bands.
    stars: features of the same sources in the same order. extrapolate as in `passband_system`; the correction itself
    ends where it ends. Errors are those of the coefficients and, where features have input errors, of the correction
    through them, added in quadrature; `systematic` is apart. Stars that are not corrected have their uncorrected
    magnitudes, with the linear correction that the model stands on (base, see `Correcting`), and are flagged, as are
    stars beyond its domain. Folding takes a fifth of a second: for many tables use a `CorrectedPhotometer`.

    Raises ValueError for other sources, systems with color equations or flux biases, or missing columns.
    """
    curves = load_passbands(bands)
    how = Correcting(model, curves.passbands, stars, limits=limits or Limits(), base=base)
    plain = system or _system_of(bands, curves, extrapolate, instrument)
    plain = corrected_system(plain, how.linear, curves)
    table = as_sources(sources, plain.release)
    if not np.array_equal(table.source_id, stars.source_id):
        raise XpjaxError("the features are not of these sources in this order: use features.matched(source_id)")
    apply, _ = applicable(model, stars, teff=teff, mh=mh, limits=how.limits)
    used = stars.ebv[apply] if stars.ebv is not None and apply.any() else np.zeros(1)
    span = min(float(used.min()), 0.0), float(used.max())
    photometer = CorrectedPhotometer.prepare(
        Photometer(plain, errors, model.truncate, float64=float64), how, ebv_range=span, instrument=instrument
    )
    return photometer.measure(table, stars, teff, mh, devices=devices, progress=progress)


def _system_of(
    bands: Any, curves: PassbandSet, extrapolate: str | None, instrument: Instrument | None
) -> PhotometricSystem:
    """The published projections where bands name a plain published system, else those of the curves."""
    if isinstance(bands, str) and instrument is None and extrapolate is None:
        name = published_name(bands.partition(":")[0])
        if name is not None:
            return select_bands(load_system(name), list(curves.names))
    return passband_system(curves, extrapolate=extrapolate, instrument=instrument)


def absolute_scale(
    sources: Any, model: WiggleCorrection, stars: Features, given: Any, band: str = "G", **options: Any
) -> np.ndarray:
    """Factors (n,) on corrected fluxes that make the synthetic Gaia magnitude in a band equal a given one.

    given (n,) [mag]: phot_g_mean_mag for band "G", or BP's or RP's, with the user's corrections for magnitude terms;
    options go to `corrected_photometry`. 10^(-0.4 (given - synthetic)); NaN where either is unknown.
    """
    found = corrected_photometry(sources, f"Gaia_DR3_Vega:{band}", model, stars, **{"errors": False, **options})
    return 10 ** (-0.4 * (np.asarray(given, float) - found.magnitude[:, 0]))
