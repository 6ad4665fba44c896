"""The wiggle correction: a network that predicts, from a star's features, what its XP spectrum is wrong by.

With f the flux, <.> the mean over the correction's own wavelengths, A the extinction and w the network's output
(Ye et al. 2024), in the space of dereddened, mean-normalised flux:

    additive         corrected f = f + <f 10^(0.4 A)> w 10^(-0.4 A)
    multiplicative   corrected f = f (1 + w)

Between its wavelengths w is linear, beyond them it goes smoothly to zero within `blend` nm. A correction made in
observed space has A = 0. Corrected magnitudes need no spectrum: see `xpjax.wiggles.magnitude`.
"""

from __future__ import annotations

import dataclasses
import io
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float

from xpjax.core import engine
from xpjax.core.constants import FLUX_UNIT, XP_RANGE
from xpjax.core.errors import XpjaxError, say
from xpjax.core.linalg import dot, interpolation
from xpjax.core.records import AnyArray
from xpjax.core.status import Status
from xpjax.core.units import nanometers
from xpjax.extinction import AV_PER_SFD, R_V, extinction_curve
from xpjax.io.catalogue import write_bytes
from xpjax.io.hdf5 import open_hdf5
from xpjax.wiggles.features import GAIA, INPUTS, Features, combination
from xpjax.wiggles.meaning import KINDS, SPACES
from xpjax.xp import NONE, Spectra, check_grid, constant_grid

FORMAT, VERSION = "xpjax wiggle correction", 2
"""Version 1 knows no linear correction beneath."""
BLEND = 10.0
"""Width [nm] within which a correction goes to zero beyond its wavelengths."""


class Network(eqx.Module):
    """A perceptron with ReLU between its layers: weight (n_in, n_out) and bias (n_out,) of each."""

    weight: tuple[Float[AnyArray, "n_in n_out"], ...]
    bias: tuple[Float[AnyArray, " n_out"], ...]

    def hidden(self, x: Array) -> Array:
        """What goes into the last layer."""
        for weight, bias in zip(self.weight[:-1], self.bias[:-1], strict=True):
            x = jax.nn.relu(dot(x, weight) + bias)
        return x

    def __call__(self, x: Array) -> Array:
        """The output (n_out,) for scaled features (n_in,)."""
        return dot(self.hidden(x), self.weight[-1]) + self.bias[-1]

    @property
    def widths(self) -> tuple[int, ...]:
        """Sizes of the hidden layers."""
        return tuple(w.shape[1] for w in self.weight[:-1])

    @property
    def n_weight(self) -> int:
        """Number of weights and biases."""
        return sum(int(np.prod(a.shape)) for a in (*self.weight, *self.bias))


class SystematicTable(eqx.Module):
    """What a correction leaves, RMS (n_color, n_g, n_ebv, n_wavelength) of normalised flux, at nodes of BP-RP, G, E.

    Linear between nodes, constant beyond; an axis with one node does not matter.
    """

    color: Float[AnyArray, " n_color"]
    g: Float[AnyArray, " n_g"]
    ebv: Float[AnyArray, " n_ebv"]
    value: Float[AnyArray, "n_color n_g n_ebv n_wavelength"]

    def weights(self, color: np.ndarray, g: np.ndarray, ebv: np.ndarray) -> np.ndarray:
        """Weights (n, n_node_total) of the nodes for stars with these colors, G and E(B-V) (n,); NaN: the mean."""
        out = np.ones((len(color), 1))
        for nodes, x in ((self.color, color), (self.g, g), (self.ebv, ebv)):
            out = (out[:, :, None] * _linear_weights(np.asarray(nodes), x)[:, None, :]).reshape(len(x), -1)
        return out


def _linear_weights(nodes: np.ndarray, x: np.ndarray) -> np.ndarray:
    """Weights (n, n_node) of linear interpolation at x (n,), clamped; equal ones where x is NaN."""
    n = len(nodes)
    if n == 1:
        return np.ones((len(x), 1))
    known = np.isfinite(x)
    at = np.clip(np.where(known, x, nodes[0]), nodes[0], nodes[-1])
    k = np.clip(np.searchsorted(nodes, at, side="right") - 1, 0, n - 2)
    t = (at - nodes[k]) / (nodes[k + 1] - nodes[k])
    out = np.zeros((len(x), n))
    rows = np.arange(len(x))
    out[rows, k], out[rows, k + 1] = 1 - t, t
    out[~known] = 1 / n
    return out


class WiggleCorrection(eqx.Module):
    """A trained correction and all that is needed to apply it.

    networks: one, or several of an ensemble, whose mean is the correction and whose scatter its uncertainty; they map
    (features - feature_mean) / feature_scale (n_feature,) to w (n_wavelength,). low, high (n_feature,): the range of
    the training set. wavelength (n_wavelength,) [nm]; blend [nm]; law, r_v and per_ebv (A_V per E(B-V)) of the
    dereddening. truncate: made from truncated spectra. base: name of the linear correction (`xpjax.xp.correction`) of
    the spectra that it corrects, "none" for those as published. record: how it was trained, as JSON.
    """

    networks: tuple[Network, ...]
    feature_mean: Float[AnyArray, " n_feature"]
    feature_scale: Float[AnyArray, " n_feature"]
    low: Float[AnyArray, " n_feature"]
    high: Float[AnyArray, " n_feature"]
    wavelength: Float[AnyArray, " n_wavelength"]
    blend: Float[AnyArray, ""]
    r_v: Float[AnyArray, ""]
    per_ebv: Float[AnyArray, ""]
    systematic: SystematicTable | None
    names: tuple[str, ...] = eqx.field(static=True)
    kind: str = eqx.field(static=True, default="additive")
    space: str = eqx.field(static=True, default="dereddened")
    law: str = eqx.field(static=True, default="ccm89")
    truncate: bool = eqx.field(static=True, default=False)
    record: str = eqx.field(static=True, default="{}")
    base: str = eqx.field(static=True, default=NONE)

    def __check_init__(self) -> None:
        for value, known, what in ((self.kind, KINDS, "kind"), (self.space, SPACES, "space")):
            if value not in known:
                raise XpjaxError(f"{what} {value!r} is not one of {known}")
        k, m = len(self.names), len(self.wavelength)
        for name in ("feature_mean", "feature_scale", "low", "high"):
            if np.shape(getattr(self, name)) != (k,):
                raise XpjaxError(f"{name} has shape {np.shape(getattr(self, name))}, expected ({k},): {self.names}")
        check_grid(self.wavelength, XP_RANGE, "wavelength", "nm")
        if not self.networks:
            raise XpjaxError("a correction needs a network")
        for network in self.networks:
            sizes = [k, *(w.shape[1] for w in network.weight)]
            fits = [w.shape == (a, b) for w, a, b in zip(network.weight, sizes, sizes[1:], strict=False)]
            if sizes[-1] != m or not all(fits):
                shapes = [w.shape for w in network.weight]
                raise XpjaxError(f"layers {shapes} do not lead from {k} features to {m} wavelengths")

    @property
    def gaia(self) -> str | None:
        """Where G, BP and RP of its features came from: "synthetic" or "columns"; None: it has none, or did not say."""
        uses = np.any(combination(self.names)[[INPUTS.index(name) for name in GAIA]])
        return json.loads(self.record).get("gaia") if uses else None

    @property
    def dereddens(self) -> bool:
        """Whether E(B-V) enters beyond the features."""
        return self.kind == "additive" and self.space == "dereddened"

    def pattern(self, x: Array) -> Array:
        """w (n_wavelength,) for features (n_feature,): the mean over the networks."""
        scaled = (x - self.feature_mean) / self.feature_scale
        return jnp.stack([network(scaled) for network in self.networks]).mean(0)

    def interpolation(self, wavelength: np.ndarray) -> Any:
        """Sparse matrix (n, n_wavelength) that gives w at wavelengths (n,) [nm]: linear, and to zero beyond."""
        from scipy import sparse

        own, x = np.asarray(self.wavelength, float), np.asarray(nanometers(wavelength), float)
        inside = np.clip(x, own[0], own[-1])
        k = np.clip(np.searchsorted(own, inside, side="right") - 1, 0, len(own) - 2)
        t = (inside - own[k]) / (own[k + 1] - own[k])
        far = np.clip(np.abs(x - inside) / max(float(self.blend), 1e-9), 0, 1)
        share = 1 - far**2 * (3 - 2 * far)
        rows = np.arange(len(x))
        weights = np.append(share * (1 - t), share * t)
        return sparse.csr_array((weights, (np.append(rows, rows), np.append(k, k + 1))), shape=(len(x), len(own)))

    def exponent(self, wavelength: np.ndarray) -> np.ndarray:
        """0.4 ln(10) A / E(B-V) (n,) at wavelengths (n,) [nm]; zero for a correction that does not deredden."""
        if not self.dereddens:
            return np.zeros(len(wavelength))
        curve = extinction_curve(wavelength, self.law, float(self.r_v))
        return 0.4 * np.log(10.0) * float(self.per_ebv) * curve


def check_base(model: WiggleCorrection, base: str, what: str) -> None:
    """Raise ValueError where a model is not made for a linear correction, by its name."""
    if base != model.base:
        raise XpjaxError(
            f"the network was trained on spectra with the linear correction {model.base}, but {what} {base}: make them "
            f"with {say(f'correction={model.base!r}', f'--correction {model.base}')}"
        )


def check_features(model: WiggleCorrection, stars: Features) -> None:
    """Raise ValueError for features that are not made as those that a model was trained on, by what both say."""
    check_base(model, stars.base, "the features are of spectra with")
    if stars.truncate not in (None, model.truncate):
        words = {True: "truncated", False: "full"}
        raise XpjaxError(
            f"the network was trained on features of {words[model.truncate]} spectra, these are of "
            f"{words[not model.truncate]} ones: make them "
            + say(f"with truncate={model.truncate}", f"{'with' if model.truncate else 'without'} --truncate")
        )
    check_gaia(model, stars.gaia)


def check_gaia(model: WiggleCorrection, gaia: str | None) -> None:
    """Raise ValueError for magnitudes of another origin than a model was trained on, by what both say."""
    if model.gaia is not None and gaia not in (None, model.gaia):
        kinds = {"synthetic": "synthetic G, BP and RP", "columns": "given G, BP and RP (phot_g_mean_mag, ...)"}
        raise XpjaxError(
            f"the network was trained on {kinds[model.gaia]}, these features have {kinds[str(gaia)]}: make them with "
            + say(f"gaia={model.gaia!r}", f"--gaia {model.gaia}")
        )


# --- rules ------------------------------------------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class Limits:
    """Beyond these stars are not corrected: teff [K] above, mh [dex] at or below, av [mag] above; None: no limit."""

    teff: float | None = 8000.0
    mh: float | None = -2.5
    av: float | None = 15.0


def applicable(
    model: WiggleCorrection,
    stars: Features,
    *,
    teff: np.ndarray | None = None,
    mh: np.ndarray | None = None,
    limits: Limits | None = None,
) -> tuple[Bool[np.ndarray, " n"], np.ndarray]:
    """Which stars are corrected (n,), and status bits (n,) uint32 of the others that say why not.

    Not corrected: features missing or outside the training set's range, E(B-V) missing where it is needed, and Teff,
    [M/H] (n,), where given and known, or A_V beyond the limits (Ye et al. 2024, section 4.4).
    """
    limits = limits or Limits()
    stars = stars.select(model.names)
    x = np.asarray(stars.value, float)
    known = np.isfinite(x)
    missing = ~known.all(axis=1)
    if model.dereddens:
        if stars.ebv is None:
            raise XpjaxError(
                f"this correction dereddens: the features need E(B-V), by {say('ebv=', '--ebv')} or a dataset ebv"
            )
        missing |= ~np.isfinite(stars.ebv)
    # Rounding to float32 must not put the training set's own edge outside.
    margin = 1e-6 * (np.abs(np.asarray(model.low)) + np.abs(np.asarray(model.high)))
    margin = np.where(np.isfinite(margin), margin, 0)
    outside = (known & ((x < np.asarray(model.low) - margin) | (x > np.asarray(model.high) + margin))).any(axis=1)
    beyond = np.zeros(len(stars), bool)
    with np.errstate(invalid="ignore"):
        if teff is not None and limits.teff is not None:
            beyond |= np.asarray(teff) > limits.teff
        if mh is not None and limits.mh is not None:
            beyond |= np.asarray(mh) <= limits.mh
        if stars.ebv is not None and limits.av is not None:
            beyond |= stars.ebv * float(model.per_ebv) > limits.av
    status = np.zeros(len(stars), np.uint32)
    reasons = ((missing, Status.FEATURE_MISSING), (outside, Status.OUTSIDE_TRAINING), (beyond, Status.OUTSIDE_LIMITS))
    for rows, bit in reasons:
        status[rows] |= np.uint32(bit | Status.NOT_CORRECTED)
    return status == 0, status


class Star(eqx.Module):
    """What the kernels are told of one star: scaled features (n_feature,), E(B-V), whether to correct it."""

    x: Float[AnyArray, " n_feature"]
    ebv: Float[AnyArray, ""]
    apply: Bool[AnyArray, ""]
    input_error: Float[AnyArray, " n_input"] | None


def star_inputs(model: WiggleCorrection, stars: Features, apply: np.ndarray, errors: bool) -> Star:
    """The stars with harmless numbers where they are not corrected."""
    stars = stars.select(model.names)
    mean = np.asarray(model.feature_mean, float)
    # Scaled here in float64: magnitudes of 15 in float32 would cost 1e-6 mag before the network sees them.
    x = np.where(apply[:, None], (stars.value - mean) / np.asarray(model.feature_scale, float), 0.0)
    ebv = np.zeros(len(stars)) if stars.ebv is None or not model.dereddens else np.where(apply, stars.ebv, 0.0)
    error = None
    if errors and stars.input_error is not None:
        error = np.where(apply[:, None], stars.input_error, 0.0)
    return Star(x, ebv, apply, error)


def spread(values: Array) -> Array:
    """Standard deviation over the networks, along the first axis."""
    n = values.shape[0]
    return jnp.sqrt(jnp.sum((values - values.mean(0)) ** 2, axis=0) / max(n - 1, 1))


# --- spectra ----------------------------------------------------------------------------------------------------------


class _SpectrumConstants(eqx.Module):
    """What corrects spectra on one grid: networks, and matrices from the grid to the correction's and back."""

    networks: tuple[Network, ...]
    per_input: Float[AnyArray, "n_input n_feature"] | None
    to_own: Float[AnyArray, "n_grid n_wavelength"] | None
    from_own: Float[AnyArray, "n_wavelength n_grid"]
    own_exponent: Float[AnyArray, " n_wavelength"]
    exponent: Float[AnyArray, " n_grid"]
    scale: Float[AnyArray, ""]
    additive: bool = eqx.field(static=True)


def _spectrum_kernel(constants: _SpectrumConstants, source: tuple[Array, Array | None, Star]) -> dict[str, Array]:
    """Corrected flux (n_grid,) of one star, its error, and whether it was corrected."""
    flux, error, star = source
    flux = flux / constants.scale

    def terms(x: Array) -> Array:
        """What each network adds (n_network, n_grid)."""
        w = jnp.stack([network(x) for network in constants.networks])
        if not constants.additive:
            return flux * dot(w, constants.from_own)
        assert constants.to_own is not None
        mean = jnp.mean(dot(flux, constants.to_own) * jnp.exp(constants.own_exponent * star.ebv))
        return mean * dot(w, constants.from_own) * jnp.exp(-constants.exponent * star.ebv)

    x = jnp.asarray(star.x)
    each = terms(x)
    term = each.mean(0)
    apply = jnp.asarray(star.apply) & jnp.any(jnp.isfinite(term))
    result = {"flux": (flux + jnp.where(apply, term, 0)) * constants.scale, "corrected": apply}
    if len(constants.networks) > 1:
        result["systematic"] = jnp.where(apply, spread(each), 0) * constants.scale
    if error is not None:
        variance = (error / constants.scale) ** 2
        if star.input_error is not None:
            assert constants.per_input is not None
            # One directional derivative for each input: they are far fewer than the samples.
            slope = jax.vmap(lambda v: jax.jvp(lambda x: terms(x).mean(0), (x,), (v,))[1])(constants.per_input)
            variance += jnp.where(apply, jnp.sum((slope * star.input_error[:, None]) ** 2, axis=0), 0)
        result["flux_error"] = jnp.sqrt(variance) * constants.scale
    return result


def correct_spectra(
    spectra: Spectra,
    model: WiggleCorrection,
    stars: Features,
    *,
    teff: np.ndarray | None = None,
    mh: np.ndarray | None = None,
    limits: Limits | None = None,
    float64: bool = False,
    devices: Any = None,
    progress: engine.Progress | None = None,
) -> Spectra:
    """Absolute spectra with the correction; those that are not corrected pass through, flagged in status.

    spectra: from `xpjax.spectra`, truncated if the model was trained so, and not yet corrected by a network; stars:
    features of the same sources in the same order (`Features.matched`). Errors: the spectrum's own, and where the
    features have input errors those of the correction through them, sqrt(f_error^2 + sum_k (d term/d input_k
    input_error_k)^2). Neglected are correlations between the two and the error of the mean flux, which is far below a
    sample's; the correlation matrix stays as it is. meta["systematic"] is not set: see `systematic_error`. Raises
    ValueError for internal spectra, other sources, spectra or features of another linear correction than the model's
    base, or a grid that does not cover the correction's wavelengths (an additive one needs their mean).
    """
    if spectra.internal:
        option = say("internal=True", "--internal")
        raise XpjaxError(f"internal spectra cannot be corrected: make absolute ones, without {option}")
    if not np.array_equal(spectra.source_id, stars.source_id):
        raise XpjaxError("the features are not of these sources in this order: use features.matched(spectra.source_id)")
    if bool(spectra.meta.get("truncate", model.truncate)) != model.truncate:
        made = "truncated" if model.truncate else "full"
        option = say(f"truncate={model.truncate}", "--truncate" if model.truncate else "no --truncate")
        raise XpjaxError(f"this correction is for {made} spectra: make them with {option}")
    check_base(model, str(spectra.meta.get("correction", NONE)), "the spectra have")
    check_features(model, stars)
    if spectra.meta.get("corrected"):
        raise XpjaxError("these spectra are corrected by a network already: give those that they were made of")
    grid, own = np.asarray(nanometers(spectra.wavelength), float), np.asarray(model.wavelength, float)
    to_own = None
    if model.kind == "additive":
        if grid[0] > own[0] + 1e-9 or grid[-1] < own[-1] - 1e-9:
            raise XpjaxError(
                f"the spectra cover {grid[0]:g}..{grid[-1]:g} nm, the correction's mean flux needs "
                f"{own[0]:g}..{own[-1]:g} nm: sample them there too"
            )
        to_own = interpolation(grid, np.clip(own, grid[0], grid[-1])).toarray().T
    apply, bits = applicable(model, stars, teff=teff, mh=mh, limits=limits)
    if model.base != NONE:
        # Beyond the linear correction's domain a spectrum is not what the network learned from.
        apply &= (spectra.status & np.uint32(Status.OUTSIDE_TRAINING | Status.NOT_CORRECTED)) == 0
        bits[~apply] |= np.uint32(Status.NOT_CORRECTED)
    source = star_inputs(model, stars, apply, spectra.flux_error is not None)
    constants = _SpectrumConstants(
        model.networks,
        None if source.input_error is None else combination(model.names) / np.asarray(model.feature_scale),
        to_own,
        model.interpolation(grid).toarray().T,
        model.exponent(own),
        model.exponent(grid),
        np.asarray(FLUX_UNIT),
        model.kind == "additive",
    )
    widest = sum(sum(n.widths) for n in model.networks) + 4 * len(grid)
    out = engine.run(
        _spectrum_kernel,
        constants,
        (spectra.flux, spectra.flux_error, source),
        float64=float64,
        devices=devices,
        work_bytes=4 * widest * (1 + float64) * (1 if source.input_error is None else 2 * len(INPUTS)),
        progress=progress,
    )
    status = spectra.status | bits
    status[~out["corrected"]] |= np.uint32(Status.NOT_CORRECTED)
    meta = {**spectra.meta, "corrected": True}
    return dataclasses.replace(spectra, flux=out["flux"], flux_error=out.get("flux_error"), status=status, meta=meta)


def systematic_error(model: WiggleCorrection, stars: Features) -> Float[np.ndarray, "n n_wavelength"]:
    """What the correction leaves (n, n_wavelength): RMS of normalised flux at the model's wavelengths.

    From the model's table at each star's BP-RP, G and E(B-V). Raises ValueError for a model without a table.
    """
    table = model.systematic
    if table is None:
        raise XpjaxError("this correction has no table of systematic errors")
    value = np.asarray(table.value)
    return table.weights(*table_axes(stars)) @ value.reshape(-1, value.shape[-1])


def table_axes(stars: Features) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """BP-RP, G and E(B-V) (n,) of stars, NaN where their features do not hold them."""

    def column(name: str) -> np.ndarray:
        return stars.value[:, stars.names.index(name)] if name in stars.names else np.full(len(stars), np.nan)

    color = column("BP-RP")
    if "BP-RP" not in stars.names and {"BP", "RP"} <= set(stars.names):
        color = column("BP") - column("RP")
    return color, column("G"), column("E(B-V)") if stars.ebv is None else stars.ebv


# --- files ------------------------------------------------------------------------------------------------------------

_ARRAYS = ("feature_mean", "feature_scale", "low", "high", "wavelength", "blend", "r_v", "per_ebv")
_TEXTS = ("kind", "space", "law", "record")


def write_network(path: str | Path, model: WiggleCorrection, *, overwrite: bool = False) -> None:
    """A correction as one HDF5 file, whole or not at all. Raises FileExistsError unless overwrite."""
    import h5py

    if Path(path).exists() and not overwrite:
        raise FileExistsError(f"{path} exists; name another file, or add {say('overwrite=True', '--overwrite')}")
    buffer = io.BytesIO()
    with h5py.File(buffer, "w", track_order=True) as file:
        version = 1 if model.base == NONE else VERSION
        file.attrs.update({"format": FORMAT, "format_version": version, "truncate": model.truncate})
        if model.base != NONE:
            file.attrs["base"] = model.base
        file.attrs.update({name: getattr(model, name) for name in _TEXTS})
        file.attrs["features"] = list(model.names)
        for name in _ARRAYS:
            file[name] = np.asarray(getattr(model, name), float)
        for k, network in enumerate(model.networks):
            for j, (weight, bias) in enumerate(zip(network.weight, network.bias, strict=True)):
                file[f"network/{k}/{j}/weight"], file[f"network/{k}/{j}/bias"] = np.asarray(weight), np.asarray(bias)
        if model.systematic is not None:
            for name in ("color", "g", "ebv", "value"):
                file[f"systematic/{name}"] = np.asarray(getattr(model.systematic, name))
    write_bytes(path, buffer.getvalue())


def read_network(path: str | Path) -> WiggleCorrection:
    """A correction from a file of `write_correction`. Raises ValueError for another file or a newer format."""

    if not Path(path).exists():
        raise FileNotFoundError(f"no correction file {path}")
    try:
        with open_hdf5(path) as file:
            if file.attrs.get("format") != FORMAT:
                raise KeyError("no attribute format")
            if int(file.attrs["format_version"]) > VERSION:
                raise XpjaxError(
                    f"{path} has format version {int(file.attrs['format_version'])}, this xpjax knows {VERSION}: update"
                )
            networks = []
            for _, group in sorted(file["network"].items(), key=lambda item: int(item[0])):
                layers = [group[key] for key in sorted(group, key=int)]
                networks.append(Network(tuple(g["weight"][()] for g in layers), tuple(g["bias"][()] for g in layers)))
            arrays = {name: file[name][()] for name in _ARRAYS}
            texts = {name: str(file.attrs[name]) for name in _TEXTS} | {"base": str(file.attrs.get("base", NONE))}
            names = tuple(str(name) for name in file.attrs["features"])
            truncate = bool(file.attrs["truncate"])
            table = None
            if "systematic" in file:
                table = SystematicTable(*(file[f"systematic/{name}"][()] for name in ("color", "g", "ebv", "value")))
    except (OSError, KeyError) as error:
        raise XpjaxError(f"{path} is no file of a wiggle correction ({error})") from error
    fields: dict[str, Any] = {**arrays, **texts}
    return WiggleCorrection(tuple(networks), systematic=table, names=names, truncate=truncate, **fields)


def from_torch_state(
    state: Mapping[str, Any] | str | Path,
    feature_scaler: Mapping[str, Any] | str | Path,
    *,
    names: Sequence[str],
    wavelength: Any = None,
    output_scaler: Mapping[str, Any] | str | Path | None = None,
    low: Any = None,
    high: Any = None,
    **settings: Any,
) -> WiggleCorrection:
    """A correction from a PyTorch state dict of Linear layers with ReLU between them, without torch.

    state: a mapping of arrays, or an .npz file of them, with keys `ANY.weight` (n_out, n_in) and `ANY.bias` (n_out,)
    for each layer, in the order of the layers, as `numpy.savez(file, **{k: v.numpy() for k, v in model.state_dict()
    .items()})` writes it. feature_scaler, output_scaler: mappings or .npz files with `mean_` and `scale_` (or `mean`
    and `scale`), the attributes of scikit-learn's StandardScaler. names: the features, in the scaler's order.
    wavelength [nm]: by default the 330 of the paper. low, high: the training range of the features, by default none.
    settings: further fields of `WiggleCorrection`. Raises ValueError for keys or shapes that do not fit.
    """
    arrays = _mapping(state)
    keys = [key.removesuffix(".weight") for key in arrays if key.endswith(".weight")]
    odd = [key for key in arrays if key.rpartition(".")[2] not in ("weight", "bias")]
    if not keys or odd or any(arrays[f"{key}.weight"].ndim != 2 or f"{key}.bias" not in arrays for key in keys):
        raise XpjaxError(
            f"the state must hold ANY.weight (n_out, n_in) and ANY.bias of Linear layers, found {list(arrays)[:8]}"
        )
    weight = [np.asarray(arrays[f"{key}.weight"], float).T for key in keys]
    bias = [np.asarray(arrays[f"{key}.bias"], float) for key in keys]
    if output_scaler is not None:
        mean, scale = _scaler(output_scaler)
        weight[-1], bias[-1] = weight[-1] * scale, bias[-1] * scale + mean
    mean, scale = _scaler(feature_scaler)
    fields: dict[str, Any] = {
        "blend": np.asarray(BLEND),
        "r_v": np.asarray(R_V),
        "per_ebv": np.asarray(AV_PER_SFD),
        "systematic": None,
        "record": json.dumps({"source": "PyTorch state"}),
        **settings,
    }
    k = len(names)
    return WiggleCorrection(
        (Network(tuple(w.astype(np.float32) for w in weight), tuple(b.astype(np.float32) for b in bias)),),
        mean,
        scale,
        np.full(k, -np.inf) if low is None else np.asarray(low, float),
        np.full(k, np.inf) if high is None else np.asarray(high, float),
        constant_grid() if wavelength is None else np.asarray(nanometers(wavelength), float),
        names=tuple(names),
        **fields,
    )


def _mapping(source: Mapping[str, Any] | str | Path) -> dict[str, np.ndarray]:
    if isinstance(source, Mapping):
        return {key: np.asarray(value) for key, value in source.items()}
    try:
        with np.load(source) as file:
            return dict(file)
    except (OSError, ValueError, TypeError) as error:
        raise XpjaxError(f"{source} is no .npz file of arrays ({error}); make it with numpy.savez") from error


def _scaler(source: Mapping[str, Any] | str | Path) -> tuple[np.ndarray, np.ndarray]:
    arrays = _mapping(source)
    found = [next((arrays[key] for key in (f"{name}_", name) if key in arrays), None) for name in ("mean", "scale")]
    if found[0] is None or found[1] is None:
        raise XpjaxError(f"a scaler needs mean_ and scale_, found {list(arrays)}")
    return np.asarray(found[0], float), np.asarray(found[1], float)
