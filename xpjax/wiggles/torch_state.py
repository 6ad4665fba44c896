"""Networks that were trained with PyTorch, read without torch."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any, TypedDict, Unpack

import numpy as np
from numpy.typing import ArrayLike

from xpjax.core.errors import XpjaxError
from xpjax.core.types import PathLike
from xpjax.core.units import nanometers
from xpjax.extinction import AV_PER_SFD, R_V
from xpjax.wiggles.network import BLEND, Network, SystematicTable, WiggleCorrection
from xpjax.xp import constant_grid


class NetworkSettings(TypedDict, total=False):
    """Further fields of `WiggleCorrection`."""

    blend: ArrayLike
    r_v: ArrayLike
    per_ebv: ArrayLike
    systematic: SystematicTable | None
    kind: str
    space: str
    law: str
    truncate: bool
    record: str
    base: str
    release: str


def network_from_torch(
    state: Mapping[str, ArrayLike] | PathLike,
    feature_scaler: Mapping[str, ArrayLike] | PathLike,
    *,
    names: Sequence[str],
    wavelength: ArrayLike | None = None,
    output_scaler: Mapping[str, ArrayLike] | PathLike | None = None,
    low: ArrayLike | None = None,
    high: ArrayLike | None = None,
    **settings: Unpack[NetworkSettings],
) -> WiggleCorrection:
    """Load a network from a PyTorch state dict of Linear layers with ReLU between them, without torch.

    Parameters
    ----------
    state : mapping, str or Path
        Arrays, or an .npz file of them, with keys `ANY.weight` (n_out, n_in) and `ANY.bias` (n_out,) for each layer, in
        the order of the layers: `numpy.savez(file, **{k: v.numpy() for k, v in model.state_dict().items()})`.
    feature_scaler : mapping, str or Path
        `mean_` and `scale_` (or `mean` and `scale`) of the features, attributes of scikit-learn's StandardScaler, or
        an .npz file of them.
    names : sequence of str
        Names of the features, in the scaler's order.
    wavelength : (n_wavelength,) array, optional [nm]
        Wavelengths of the output; by default the 330 of Ye et al. (2024).
    output_scaler : mapping, str or Path, optional
        Scaler of the output.
    low, high : (n_feature,) array, optional
        Range of the features in the training set; by default unlimited.
    **settings
        Further fields of `WiggleCorrection`: kind, space, law, r_v, per_ebv, truncate, base, ...

    Returns
    -------
    WiggleCorrection
        The network.

    Raises
    ------
    XpjaxError
        For keys or shapes that do not fit.

    Examples
    --------
    >>> state = {"0.weight": np.zeros((330, 1)), "0.bias": np.zeros(330)}
    >>> model = xpjax.wiggles.network_from_torch(state, {"mean_": [0.8], "scale_": [0.3]}, names=["BP-RP"])
    >>> model.wavelength.shape
    (330,)
    """
    weight, bias = _layers(_mapping(state))
    if output_scaler is not None:
        mean, scale = _scaler(output_scaler)
        weight[-1], bias[-1] = weight[-1] * scale, bias[-1] * scale + mean
    mean, scale = _scaler(feature_scaler)
    usual = {"blend": np.asarray(BLEND), "r_v": np.asarray(R_V), "per_ebv": np.asarray(AV_PER_SFD), "systematic": None}
    fields: dict[str, Any] = {**usual, "record": json.dumps({"source": "PyTorch state"}), **settings}
    network = Network(tuple(w.astype(np.float32) for w in weight), tuple(b.astype(np.float32) for b in bias))
    most = np.full(len(names), np.inf)
    ends = (-most if low is None else np.asarray(low, float), most if high is None else np.asarray(high, float))
    grid = constant_grid() if wavelength is None else np.asarray(nanometers(wavelength), float)
    return WiggleCorrection((network,), mean, scale, *ends, grid, names=tuple(names), **fields)


def _layers(arrays: Mapping[str, np.ndarray]) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """Weights (n_in, n_out) and biases (n_out,) of the layers of a state dict. Raises XpjaxError."""
    keys = [key.removesuffix(".weight") for key in arrays if key.endswith(".weight")]
    odd = [key for key in arrays if key.rpartition(".")[2] not in ("weight", "bias")]
    if not keys or odd or any(arrays[f"{key}.weight"].ndim != 2 or f"{key}.bias" not in arrays for key in keys):
        raise XpjaxError(
            f"the state must hold ANY.weight (n_out, n_in) and ANY.bias of Linear layers, found {list(arrays)[:8]}"
        )
    weight = [np.asarray(arrays[f"{key}.weight"], float).T for key in keys]
    return weight, [np.asarray(arrays[f"{key}.bias"], float) for key in keys]


def _mapping(source: Mapping[str, ArrayLike] | PathLike) -> dict[str, np.ndarray]:
    if isinstance(source, Mapping):
        return {key: np.asarray(value) for key, value in source.items()}
    try:
        with np.load(source) as file:
            return dict(file)
    except (OSError, ValueError, TypeError) as error:
        raise XpjaxError(f"{source} is no .npz file of arrays ({error}); make it with numpy.savez") from error


def _scaler(source: Mapping[str, ArrayLike] | PathLike) -> tuple[np.ndarray, np.ndarray]:
    arrays = _mapping(source)
    found = [next((arrays[key] for key in (f"{name}_", name) if key in arrays), None) for name in ("mean", "scale")]
    if found[0] is None or found[1] is None:
        raise XpjaxError(f"a scaler needs mean_ and scale_, found {list(arrays)}")
    return np.asarray(found[0], float), np.asarray(found[1], float)
