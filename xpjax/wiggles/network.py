"""The wiggle correction: a network that predicts, from a star's features, what its XP spectrum is wrong by.

With f the flux, <.> the mean over the correction's own wavelengths, A the extinction and w the network's output
(Ye et al. 2024), in the space of dereddened, mean-normalized flux:

    additive         corrected f = f + <f 10^(0.4 A)> w 10^(-0.4 A)
    multiplicative   corrected f = f (1 + w)

Between its wavelengths w is linear, beyond them it goes smoothly to zero within `blend` nm. A correction made in
observed space has A = 0. Corrected magnitudes need no spectrum: see `xpjax.wiggles.magnitude`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from xpjax.core.constants import FLUX_PER_MAGNITUDE, XP_RANGE
from xpjax.core.errors import XpjaxError, say
from xpjax.core.grids import check_grid
from xpjax.core.linalg import dot
from xpjax.core.records import AnyArray
from xpjax.core.release import DR3, Release, stated_release
from xpjax.core.units import nanometers
from xpjax.extinction import extinction_curve
from xpjax.io.atomic import expanded
from xpjax.io.hdf5 import Parts, model_kind, read_model, write_model
from xpjax.wiggles.features import GAIA, INPUTS, Features, combination
from xpjax.wiggles.meaning import Meaning
from xpjax.xp import NONE, STANDARD, LinearCorrection, is_linear

if TYPE_CHECKING:
    from scipy import sparse

FORMAT, VERSION = "xpjax wiggle correction", 3
"""Version 1 knows no linear correction beneath, version 2 no other release than Gaia DR3."""
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
    """What a correction leaves, RMS (n_color, n_g, n_ebv, n_wavelength) of normalized flux, at nodes of BP-RP, G, E.

    Linear between nodes, constant beyond; an axis with one node does not matter.
    """

    color: Float[AnyArray, " n_color"]
    g: Float[AnyArray, " n_g"]
    ebv: Float[AnyArray, " n_ebv"]
    value: Float[AnyArray, "n_color n_g n_ebv n_wavelength"]

    def weights_of(self, stars: Features) -> np.ndarray:
        """Weights (n, n_node_total) of the nodes for stars, by what their features tell; the mean where they do not."""
        out = np.ones((len(stars), 1))
        for nodes, x in zip((self.color, self.g, self.ebv), _table_axes(stars), strict=True):
            out = (out[:, :, None] * _linear_weights(np.asarray(nodes), x)[:, None, :]).reshape(len(x), -1)
        return out


def _table_axes(stars: Features) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """BP-RP, G and E(B-V) (n,) of stars, NaN where their features do not hold them."""

    def column(name: str) -> np.ndarray:
        return stars.value[:, stars.names.index(name)] if name in stars.names else np.full(len(stars), np.nan)

    color = column("BP-RP")
    if "BP-RP" not in stars.names and {"BP", "RP"} <= set(stars.names):
        color = column("BP") - column("RP")
    return color, column("G"), column("E(B-V)") if stars.ebv is None else stars.ebv


def _linear_weights(nodes: np.ndarray, x: np.ndarray) -> np.ndarray:
    """Weights (n, n_node) of linear interpolation at x (n,), clamped; equal ones where x is NaN."""
    n = len(nodes)
    if n == 1:
        return np.ones((len(x), 1))
    known = np.isfinite(x)
    k, t = _between(nodes, np.where(known, x, nodes[0]))
    out, rows = np.zeros((len(x), n)), np.arange(len(x))
    out[rows, k], out[rows, k + 1] = 1 - t, t
    out[~known] = 1 / n
    return out


def _between(nodes: np.ndarray, x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The node (n,) below each x (n,), and the share of the way to the next one, clamped."""
    at = np.clip(x, nodes[0], nodes[-1])
    k = np.clip(np.searchsorted(nodes, at, side="right") - 1, 0, len(nodes) - 2)
    return k, (at - nodes[k]) / (nodes[k + 1] - nodes[k])


class WiggleCorrection(eqx.Module):
    """Predict the systematic errors of XP spectra from features of the stars, by a trained network or an ensemble.

    Parameters
    ----------
    networks : tuple of Network
        One network, or several of an ensemble: their mean is the correction, their scatter its uncertainty. They map
        (features - feature_mean) / feature_scale to the output w.
    feature_mean, feature_scale : (n_feature,) array
        Mean and standard deviation of the features in the training set, by which features are standardized.
    low, high : (n_feature,) array
        Range of the features in the training set.
    wavelength : (n_wavelength,) array [nm]
        Wavelengths of the output.
    blend : float [nm]
        Width within which the correction goes to zero beyond its wavelengths.
    r_v, per_ebv : float
        R_V, and A_V per E(B-V), of the dereddening.
    systematic : SystematicTable or None
        Residuals that the correction leaves, by BP-RP, G and E(B-V).
    names : tuple of str
        Names of the features.
    kind : {"additive", "multiplicative"}
        How the output enters the spectrum, see Notes.
    space : {"dereddened", "observed"}
        Spectra to which the output belongs.
    law : str
        Extinction law of the dereddening.
    truncate : bool
        Whether the training spectra were of truncated coefficients.
    record : str
        How the networks were trained, as JSON.
    base : str
        Name of the linear correction of the spectra that the networks correct; "none" for spectra as published.
    release : str
        Name of the data release of these spectra.

    Raises
    ------
    XpjaxError
        Where shapes, wavelengths or words do not fit.

    Notes
    -----
    With f the flux, <.> the mean over the correction's own wavelengths, A the extinction and w the output (Ye et al.
    2024), a correction in the space of dereddened spectra is::

        additive         corrected f = f + <f 10^(0.4 A)> w 10^(-0.4 A)
        multiplicative   corrected f = f (1 + w)

    A correction in the space of observed spectra has A = 0.

    Examples
    --------
    >>> scaler = {"mean_": [0.8], "scale_": [0.3]}
    >>> state = {"0.weight": np.zeros((330, 1)), "0.bias": np.zeros(330)}
    >>> xpjax.wiggles.network_from_torch(state, scaler, names=["BP-RP"])
    WiggleCorrection(1 network without hidden layers, features BP-RP, 330 wavelengths 360..990 nm, additive,
        dereddened, base none)
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
    release: str = eqx.field(static=True, default=DR3.name)

    def __check_init__(self) -> None:
        Meaning(self.kind, self.space)
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

    def __repr__(self) -> str:
        n, grid = len(self.networks), np.asarray(self.wavelength)
        widths = ", ".join(map(str, self.networks[0].widths))
        layers = f"of hidden layers {widths}" if widths else "without hidden layers"
        names = ", ".join([*self.names[:4], *[f"and {len(self.names) - 4} more"] * (len(self.names) > 4)])
        return (
            f"WiggleCorrection({n} network{'s' * (n > 1)} {layers}, features {names}, {len(grid)} wavelengths "
            f"{grid[0]:g}..{grid[-1]:g} nm, {self.kind}, {self.space}, base {self.base})"
        )

    @property
    def training(self) -> Mapping[str, object]:
        """How the networks were trained: settings, numbers of stars, losses, residuals of the test stars."""
        return dict(json.loads(self.record))

    def summary(self) -> list[str]:
        """Lines that say what the networks were trained on and gained; none for networks of another origin."""
        told: Mapping[str, Any] = self.training
        if "test_rms_after" not in told:
            return []
        start = "uncorrected spectra" if self.base == NONE else f"the linear correction {self.base}"
        lines = [
            f"{told['n_star']:,} stars ({', '.join(f'{n:,}' for n in told['n_split'])} for training, validation and "
            f"test), {sum(told['n_dropped'].values()):,} left out; {self.networks[0].n_weight:,} weights, "
            f"{' + '.join(str(len(history)) for history in told['history'])} epochs",
            f"RMS of the test stars' normalized flux: {told['test_rms_before']:.3%} before, "
            f"{told['test_rms_after']:.3%} after; it starts from {start}",
        ]
        if not told["test_rms_after"] < told["test_rms_before"]:
            lines.append(f"NO GAIN: on the test stars the network does not beat {start}, its start; do not use it")
        return lines

    @property
    def gaia(self) -> str | None:
        """Origin of G, BP and RP among its features: "synthetic" or "columns"; None without these, or not stated."""
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

    def shares(self, wavelength: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Place (n,) of the wavelength below each of some (n,) [nm], and weights (2, n) of w at it and at the next."""
        own, x = np.asarray(self.wavelength, float), np.asarray(nanometers(wavelength), float)
        k, t = _between(own, x)
        far = np.clip(np.abs(x - np.clip(x, own[0], own[-1])) / max(float(self.blend), 1e-9), 0, 1)
        share = 1 - far**2 * (3 - 2 * far)
        return k, np.stack([share * (1 - t), share * t])

    def interpolation(self, wavelength: np.ndarray) -> sparse.csr_array:
        """Sparse matrix (n, n_wavelength) that gives w at wavelengths (n,) [nm]: linear, and to zero beyond."""
        from scipy import sparse

        k, share = self.shares(wavelength)
        places = np.tile(np.arange(len(k)), 2), np.append(k, k + 1)
        return sparse.csr_array((share.ravel(), places), shape=(len(k), len(self.wavelength)))

    def exponent(self, wavelength: np.ndarray) -> np.ndarray:
        """0.4 ln(10) A / E(B-V) (n,) at wavelengths (n,) [nm]; zero for a correction that does not deredden."""
        if not self.dereddens:
            return np.zeros(len(wavelength))
        curve = extinction_curve(wavelength, self.law, float(self.r_v))
        return FLUX_PER_MAGNITUDE * float(self.per_ebv) * curve


def check_network(model: WiggleCorrection, release: Release | str | None, what: str) -> None:
    """Raise XpjaxError for what is of another release than the spectra that a model was trained on; None: not known."""
    name = release.name if isinstance(release, Release) else release
    own = stated_release(model.release)
    if name in (None, model.release) or (own is not None and own is stated_release(name)):
        return
    raise XpjaxError(
        f"the network was trained on spectra of {model.release}, {what} of {name}: leave the correction out, or train "
        f"one on spectra of {name} (`xpjax wiggles train-network`)"
    )


def check_base(model: WiggleCorrection, base: str, what: str) -> None:
    """Raise XpjaxError where a model is not made for a linear correction, by its name."""
    if base != model.base:
        raise XpjaxError(
            f"the network was trained on spectra with the linear correction {model.base}, but {what} {base}: make them "
            f"with {say(f'correction={model.base!r}', f'--correction {model.base}')}"
        )


def check_features(model: WiggleCorrection, stars: Features) -> None:
    """Raise XpjaxError for features that are not made as those that a model was trained on, by what both say."""
    check_network(model, stars.release, "the features are")
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
    """Raise XpjaxError for magnitudes of another origin than a model was trained on, by what both say."""
    if model.gaia is not None and gaia not in (None, model.gaia):
        kinds = {"synthetic": "synthetic G, BP and RP", "columns": "given G, BP and RP (phot_g_mean_mag, ...)"}
        raise XpjaxError(
            f"the network was trained on {kinds[model.gaia]}, these features have {kinds[str(gaia)]}: make them with "
            + say(f"gaia={model.gaia!r}", f"--gaia {model.gaia}")
        )


def spread(values: Array) -> Array:
    """Standard deviation over the networks, along the first axis."""
    n = values.shape[0]
    return jnp.sqrt(jnp.sum((values - values.mean(0)) ** 2, axis=0) / max(n - 1, 1))


_ARRAYS = ("feature_mean", "feature_scale", "low", "high", "wavelength", "blend", "r_v", "per_ebv")
_TEXTS = ("kind", "space", "law", "record")
_TABLE = ("color", "g", "ebv", "value")


def write_network(path: str | Path, model: WiggleCorrection, *, overwrite: bool = False) -> None:
    """Write a network to an HDF5 file, whole or not at all.

    Parameters
    ----------
    path : str or Path
        File to write.
    model : WiggleCorrection
        The network.
    overwrite : bool
        Replace a file that exists.

    Raises
    ------
    FileExistsError
        Where the file exists and is not to be overwritten.

    Examples
    --------
    >>> scaler = {"mean_": [0.8], "scale_": [0.3]}
    >>> state = {"0.weight": np.zeros((330, 1)), "0.bias": np.zeros(330)}
    >>> model = xpjax.wiggles.network_from_torch(state, scaler, names=["BP-RP"])
    >>> xpjax.wiggles.write_network("network.h5", model)
    >>> xpjax.wiggles.read_network("network.h5").names
    ('BP-RP',)
    """
    on_linear = model.base != NONE
    attributes = {"truncate": model.truncate, **({"base": model.base} if on_linear else {})}
    attributes |= {name: getattr(model, name) for name in _TEXTS} | {"features": list(model.names)}
    of_other = model.release != DR3.name
    attributes |= {"release": model.release} if of_other else {}
    arrays = {name: np.asarray(getattr(model, name), float) for name in _ARRAYS}
    for k, network in enumerate(model.networks):
        for j, (weight, bias) in enumerate(zip(network.weight, network.bias, strict=True)):
            arrays |= {f"network/{k}/{j}/weight": np.asarray(weight), f"network/{k}/{j}/bias": np.asarray(bias)}
    if model.systematic is not None:
        arrays |= {f"systematic/{name}": np.asarray(getattr(model.systematic, name)) for name in _TABLE}
    version = VERSION if of_other else 1 + on_linear
    write_model(path, FORMAT, version, arrays, attributes, overwrite=overwrite)


def read_network(path: str | Path) -> WiggleCorrection:
    """Read a network from a file of `write_network`.

    Parameters
    ----------
    path : str or Path
        The file.

    Returns
    -------
    WiggleCorrection
        The network.

    Raises
    ------
    FileNotFoundError
        Where there is no such file.
    XpjaxError
        For another file, or a newer version of the format.

    Examples
    --------
    >>> scaler = {"mean_": [0.8], "scale_": [0.3]}
    >>> state = {"0.weight": np.zeros((330, 1)), "0.bias": np.zeros(330)}
    >>> model = xpjax.wiggles.network_from_torch(state, scaler, names=["BP-RP"])
    >>> xpjax.wiggles.write_network("network.h5", model)
    >>> xpjax.wiggles.read_network("network.h5").kind
    'additive'
    """
    arrays, attributes = read_model(path, FORMAT, VERSION, "file of a wiggle correction")
    networks, table = arrays.group("network"), arrays.group("systematic")
    fields: dict[str, Any] = {name: arrays[name] for name in _ARRAYS} | {name: attributes[name] for name in _TEXTS}
    return WiggleCorrection(
        tuple(_network(networks.group(str(k))) for k in range(_count(networks))),
        systematic=SystematicTable(*(table[name] for name in _TABLE)) if table else None,
        names=tuple(attributes["features"]),
        truncate=bool(attributes["truncate"]),
        base=attributes.get("base", NONE),
        release=str(attributes.get("release", DR3.name)),
        **fields,
    )


def means_linear(correction: Any) -> bool:
    """Whether a correction is a linear one or none, by its name, its file or itself."""
    if correction is None or isinstance(correction, LinearCorrection):
        return True
    return isinstance(correction, str | Path) and (correction in (STANDARD, NONE) or is_linear(expanded(correction)))


def is_network(path: Any) -> bool:
    """Tell whether a file holds a network that corrects spectra.

    Parameters
    ----------
    path : str or Path
        Any name; what is no file holds no network.

    Returns
    -------
    bool
        Whether it is a file of `write_network`.

    Examples
    --------
    >>> xpjax.wiggles.is_network("standard")
    False
    """
    return isinstance(path, str | Path) and model_kind(expanded(path)) == FORMAT


def _network(layers: Parts) -> Network:
    """One network from its arrays `LAYER/weight` and `LAYER/bias`."""
    order = [str(j) for j in range(_count(layers))]
    return Network(tuple(layers[f"{j}/weight"] for j in order), tuple(layers[f"{j}/bias"] for j in order))


def _count(numbered: Parts) -> int:
    """Number of groups 0, 1, ... among the arrays."""
    return len({name.partition("/")[0] for name in numbered})
