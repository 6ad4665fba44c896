"""Magnitudes of corrected spectra, without forming them: of sources with features, by a network that is folded."""

from __future__ import annotations

import dataclasses
import functools
from pathlib import Path
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from xpjax.core import engine
from xpjax.core.constants import POGSON
from xpjax.core.errors import XpjaxError, say
from xpjax.core.linalg import dot
from xpjax.core.records import AnyArray
from xpjax.core.release import Release
from xpjax.core.status import Status
from xpjax.io.catalogue import read_catalogue
from xpjax.synthetic import (
    AnyPassbands,
    Passband,
    PassbandSet,
    Photometer,
    PhotometricSystem,
    Photometry,
    corrected_system,
    curves_of,
    gaia_system,
    load_passbands,
    load_system,
    passband_system,
    photometry_kernel,
    published_name,
    read_photometry,
    select_bands,
)
from xpjax.wiggles.choice import NetworkCorrection
from xpjax.wiggles.features import Features, floats
from xpjax.wiggles.fold import FoldedCorrection, fold, polynomials
from xpjax.wiggles.limits import Limits, Star, applicable, star_inputs
from xpjax.wiggles.network import WiggleCorrection, check_base, check_network, spread
from xpjax.xp import (
    AnyLinear,
    AnySources,
    Instrument,
    SourceTable,
    XPCoefficients,
    as_sources,
    load_instrument,
    masked,
    run_guarded,
    usable,
)


class Observed(eqx.Module):
    """One star as corrected photometry takes it."""

    coefficients: XPCoefficients
    star: Star
    nodes: Float[AnyArray, " n_node"] | None


@functools.cache
def corrected_kernel(truncate: bool = False, errors: bool = False, guard: bool = True) -> engine.Kernel:
    """The kernel ((PhotometricSystem, FoldedCorrection), star) -> as `photometry_kernel`, corrected, and systematic."""
    plain = photometry_kernel(truncate, errors, guard=guard)

    def kernel(constants: tuple[PhotometricSystem, FoldedCorrection], source: Observed) -> dict[str, Array]:
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
            assert folded.product is not None
            sample, band, below, share = folded.product
            sampled = dot(value, sample)

            def terms(x: Array) -> Array:
                w = [network(x) for network in folded.networks]
                return jnp.stack([dot((v[below] * share[0] + v[below + 1] * share[1]) * sampled, band) for v in w])

            mean = jnp.zeros(())
        else:
            powers = polynomials(folded, jnp.asarray(star.ebv))
            mean = dot(dot(value, folded.mean), powers)
            last = folded.last

            def terms(x: Array) -> Array:
                each = [
                    dot(network.hidden(x), w[:-1]) + w[-1] for network, w in zip(folded.networks, last, strict=True)
                ]
                return mean * dot(powers, jnp.stack(each).reshape(len(each), -1, n_band))

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


@dataclasses.dataclass(frozen=True, repr=False)
class CorrectedPhotometry(Photometry):
    """Photometry corrected by a network; left (n, n_band) [mag]: what the network leaves, apart from the errors.

    NaN where a star was not corrected, None where the model has neither table nor ensemble.
    """

    left: np.ndarray | None = None
    row_fields = (*Photometry.row_fields, "left")  # type: ignore[assignment]

    @staticmethod
    def read(path: str | Path, system: PhotometricSystem | None = None) -> CorrectedPhotometry:
        """The photometry that `xpjax.write` wrote, as `xpjax.synthetic.read_photometry` reads it."""
        known, table = read_photometry(path, system), read_catalogue(path)
        fields = {field.name: getattr(known, field.name) for field in dataclasses.fields(known)}
        bands = zip(known.system.labels, known.system.names, strict=True)
        names = [f"{label}_mag_systematic_{band}" for label, band in bands]
        left = np.stack([table.columns[n] for n in names], axis=1) if names[0] in table.columns else None
        return CorrectedPhotometry(**fields, left=left)

    @property
    def systematic(self) -> np.ndarray | None:
        """What the network leaves; without its word, what the linear correction leaves that it stands on."""
        linear = super().systematic
        if self.left is None or linear is None:
            return linear if self.left is None else self.left
        return np.where(np.isnan(self.left), linear, self.left)


@dataclasses.dataclass(frozen=True)
class CorrectedPhotometer:
    """A `Photometer` whose magnitudes are those of corrected spectra; used as it is.

    Raises XpjaxError for systems with color equations or flux biases.
    """

    plain: Photometer
    how: NetworkCorrection
    folded: FoldedCorrection

    @staticmethod
    def prepare(plain: Photometer, how: NetworkCorrection, **options: Any) -> CorrectedPhotometer:
        """Fold the correction for a photometer; options go to `fold`. Raises XpjaxError."""
        bands = CorrectedPhotometer.check(plain, how)
        plain = dataclasses.replace(plain, truncate=how.model.truncate)
        folded = fold(how.model, bands, plain.system, **{"ebv_range": how.ebv_range, "base": how.linear} | options)
        return CorrectedPhotometer(plain, how, folded)

    @staticmethod
    def check(plain: Photometer, how: NetworkCorrection) -> tuple[Passband, ...]:
        """The curves of the photometer's bands. Raises XpjaxError where the correction does not fit it."""
        base = plain.system
        check_network(how.model, base.release, "the system is")
        check_base(how.model, base.correction, "the system has")
        if base.color_equations or any(base.standardized):
            raise XpjaxError(
                f"{base.labels[0]} is standardized, with color equations or flux biases that do not hold for corrected "
                "spectra; use its plain system (glossary: color equation)"
            )
        if plain.truncate and not how.model.truncate:
            option = say("truncate=True", "--truncate")
            raise XpjaxError(f"the network is for spectra that are not truncated: leave out {option}")
        if plain.error_correction:
            raise XpjaxError("the published factors on errors hold for uncorrected magnitudes: leave them out")
        bands = curves_of(base) if how.bands is None else how.bands
        names = tuple(band.name for band in bands)
        if base.names != names:
            raise XpjaxError(f"the system's bands {base.names} are not those of the passbands, {names}")
        return bands

    def __call__(self, table: SourceTable, *, devices: engine.Devices = None, **options: Any) -> CorrectedPhotometry:
        """Photometry of a table, as `Photometer` makes it."""
        stars = self.how.features(table, self.plain.errors, float64=self.plain.float64, devices=devices)
        labels = [None if name is None else floats(table, name) for name in (self.how.teff, self.how.mh)]
        return self.measure(table, stars, *labels, devices=devices, **options)

    def measure(
        self, table: SourceTable, stars: Features, teff: Any = None, mh: Any = None, **running: Any
    ) -> CorrectedPhotometry:
        """Photometry of a table with these features; teff [K], mh [dex] (n,) where they are known.

        running: devices, progress and the rows of a batch, as of `run_guarded`.
        """
        model, folded, plain = self.how.model, self.folded, self.plain
        c, errors = plain.prepared(table)
        apply, bits = applicable(model, stars, teff=teff, mh=mh, limits=self.how.limits)
        if model.dereddens and stars.ebv is not None:
            low, high = np.asarray(folded.ebv_range)
            beyond = apply & ((stars.ebv < low) | (stars.ebv > high))
            bits[beyond] |= np.uint32(Status.OUTSIDE_LIMITS | Status.NOT_CORRECTED)
            apply &= ~beyond
        star = star_inputs(model, stars, apply, errors)
        table_of = None if folded.systematic is None else model.systematic
        nodes = None if table_of is None else table_of.weights_of(stars)
        widest = sum(sum(n.widths) for n in model.networks) + np.size(folded.mean[0]) * plain.system.n_band
        out = run_guarded(
            lambda guard: corrected_kernel(model.truncate, errors, guard or model.truncate),
            (plain.bands(c), folded),
            Observed(c, star, nodes),  # type: ignore[arg-type]
            float64=plain.float64,
            work_bytes=int(4 * widest * (1 + plain.float64)) + plain.work_bytes(c),
            **running,
        )
        out["status"] |= bits
        base = plain.finished(table, out)
        fields = {field.name: getattr(base, field.name) for field in dataclasses.fields(base)}
        fields["meta"] = {**base.meta, "corrected": True}
        return CorrectedPhotometry(**fields, left=out.get("systematic"))


def make_photometer(
    system: PhotometricSystem, correction: NetworkCorrection | None = None, **options: Any
) -> Photometer | CorrectedPhotometer:
    """Prepare the photometry of many tables of sources, with or without a network.

    Parameters
    ----------
    system : PhotometricSystem
        Bands, with the linear correction that the network stands on.
    correction : NetworkCorrection, optional
        The network and its features.
    **options
        As of `xpjax.photometry`: errors, truncate, error_correction and float64.

    Returns
    -------
    callable
        Photometry of a `SourceTable`, with optional devices and progress: `Photometry`, or `CorrectedPhotometry`.

    Raises
    ------
    XpjaxError
        For systems with color equations or flux biases, and bands that are not those of the system.

    Examples
    --------
    >>> measure = xpjax.wiggles.make_photometer(xpjax.load_system("SDSS"), errors=False)
    >>> measure(xpjax.simulate_sources(5, seed=1)).magnitude.shape
    (5, 5)
    """
    plain = Photometer(system, **options)
    return plain if correction is None else CorrectedPhotometer.prepare(plain, correction)


def corrected_photometry(
    sources: AnySources,
    bands: AnyPassbands,
    model: WiggleCorrection,
    stars: Features,
    *,
    system: PhotometricSystem | None = None,
    teff: np.ndarray | None = None,
    mh: np.ndarray | None = None,
    limits: Limits | None = None,
    errors: bool = True,
    instrument: Instrument | None = None,
    base: AnyLinear = None,
    float64: bool = False,
    devices: engine.Devices = None,
    progress: engine.Progress | None = None,
) -> CorrectedPhotometry:
    """Measure synthetic magnitudes of spectra corrected by a network, without forming the spectra.

    Parameters
    ----------
    sources
        What `xpjax.photometry` takes.
    bands
        Passbands, or what `xpjax.load_passbands` takes; published systems have their own projections.
    model : WiggleCorrection
        The network.
    stars : Features
        Features of the same sources in the same order.
    system : PhotometricSystem, optional
        Other projections of these bands, as of `xpjax.passband_system`.
    teff, mh : (n,) array, optional [K], [dex]
        Labels of the stars.
    limits : Limits, optional
        Labels beyond which stars are not corrected.
    errors : bool
        Propagate errors of the coefficients, and of the features where they have any.
    instrument : Instrument, optional
        Instrument model of the spectra.
    base : optional
        Linear correction that the network stands on, see `NetworkCorrection`.
    float64 : bool
        Compute in double precision.
    devices, progress : optional
        As for `xpjax.photometry`.

    Returns
    -------
    CorrectedPhotometry
        Magnitudes [mag]; `systematic` (n, n_band) [mag] is what the network leaves. Stars that are not corrected have
        the magnitudes of the linear correction, and are flagged.

    Raises
    ------
    XpjaxError
        For features of other sources, and systems with color equations or flux biases.

    See Also
    --------
    make_photometer : The same for many tables, with the network folded into the passbands once.

    Examples
    --------
    >>> sources = xpjax.simulate_sources(5, seed=1)
    >>> stars = xpjax.wiggles.make_features(sources, "color")
    >>> state, scaler = {"0.weight": np.zeros((330, 1)), "0.bias": np.zeros(330)}, {"mean_": [0.8], "scale_": [0.3]}
    >>> model = xpjax.wiggles.network_from_torch(state, scaler, names=["BP-RP"], kind="multiplicative")
    >>> xpjax.wiggles.corrected_photometry(sources, "SDSS:g", model, stars, errors=False).meta["corrected"]
    True
    """
    curves = load_passbands(bands)
    how = NetworkCorrection(model, curves.passbands, stars, limits=limits or Limits(), base=base)
    table = as_sources(sources, getattr(system or instrument, "release", None))
    plain = corrected_system(system or _system_of(bands, curves, instrument, table.release), how.linear, curves)
    if not np.array_equal(table.source_id, stars.source_id):
        raise XpjaxError("the features are not of these sources in this order: use features.matched(source_id)")
    span = _span(stars, applicable(model, stars, teff=teff, mh=mh, limits=how.limits)[0])
    bare = Photometer(plain, errors, model.truncate, float64=float64)
    photometer = CorrectedPhotometer.prepare(bare, how, ebv_range=span, instrument=instrument)
    return photometer.measure(table, stars, teff, mh, devices=devices, progress=progress)


def _span(stars: Features, apply: np.ndarray) -> tuple[float, float]:
    """Range of E(B-V), 0 included, of stars that are corrected."""
    used = stars.ebv[apply] if stars.ebv is not None and apply.any() else np.zeros(1)
    return min(float(used.min()), 0.0), float(used.max())


def _system_of(bands: Any, curves: PassbandSet, instrument: Instrument | None, release: Release) -> PhotometricSystem:
    """The published projections where bands name a plain published system, else those of the curves."""
    if isinstance(bands, str) and instrument is None:
        name = published_name(bands.partition(":")[0], release)
        if name is not None:
            return select_bands(load_system(name, release=release), list(curves.names))
    return passband_system(curves, instrument=instrument or load_instrument(release=release))


def absolute_scale(
    sources: Any, model: WiggleCorrection, stars: Features, given: Any, band: str = "G", **options: Any
) -> np.ndarray:
    """Factors (n,) on corrected fluxes that make the synthetic Gaia magnitude in a band equal a given one.

    given (n,) [mag]: phot_g_mean_mag for band "G", or BP's or RP's, with the user's corrections for magnitude terms;
    options go to `corrected_photometry`. 10^(-0.4 (given - synthetic)); NaN where either is unknown.
    """
    sources = as_sources(sources)
    found = corrected_photometry(
        sources, f"{gaia_system(sources.release)}:{band}", model, stars, **{"errors": False, **options}
    )
    return 10 ** (-0.4 * (np.asarray(given, float) - found.magnitude[:, 0]))
