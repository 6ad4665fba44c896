"""Training of wiggle corrections on residuals: true minus observed mean-normalized flux.

    loss = sum weight (network(features) - residual)^2 / sum weight

Adam, its learning rate halved where the validation loss has not improved for a while (Ye et al. 2024 say "after 15
epochs"; read as 15 without gain), stopped after a longer while, the best epoch kept. Features and residuals are
standardized: raw residuals of some percent under a layer of usual size make every ReLU die. An additive residual has
zero mean over the wavelengths by construction, and so has the network's output: its last layer is centered.

Data stay on the device, and an epoch is one compiled program. Everything follows from the seed and the number of the
epoch, so that a run that was killed and resumed from its checkpoint ends as one that was not.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Unpack

import jax
import jax.numpy as jnp
import numpy as np

from xpjax.core import engine
from xpjax.core.errors import XpjaxError, say
from xpjax.core.version import __version__
from xpjax.wiggles.epochs import Data, Step, TrainingSettings, mean_square, train_one
from xpjax.wiggles.features import Features
from xpjax.wiggles.judgment import remaining, systematic_table
from xpjax.wiggles.meaning import Meaning, Stated
from xpjax.wiggles.network import BLEND, Network, WiggleCorrection
from xpjax.wiggles.residuals import Residuals, read_residuals, repeated
from xpjax.xp import NONE

FEWEST = 10
"""Stars without which there is nothing to split."""


def train_network(
    residuals: Residuals | str | Path,
    settings: TrainingSettings | None = None,
    *,
    names: Sequence[str] | None = None,
    n_network: int = 1,
    checkpoint: str | Path | None = None,
    checkpoint_epochs: int = 10,
    device: engine.Devices = None,
    progress: Callable[[Step], object] | None = None,
    meta: Mapping[str, object] | None = None,
    **how: Unpack[Stated],
) -> WiggleCorrection:
    """Train a network on residuals, with test residuals and a table of what it leaves.

    Parameters
    ----------
    residuals : Residuals, str or Path
        The training set, or its file. Stars with missing features or no samples, with source_id 0, or of a source that
        came before, are left out.
    settings : TrainingSettings, optional
        Layers, epochs and learning rates.
    names : sequence of str, optional
        Features to train on, by default all.
    n_network : int
        Networks of an ensemble, each from other random weights and with other stars for validation.
    checkpoint : str or Path, optional
        File from which training goes on where it exists, one for each network: CHECKPOINT.0 and so on.
    checkpoint_epochs : int
        Epochs between checkpoints.
    device : optional
        Device name as of `xpjax.photometry`; the first one is used.
    progress : callable, optional
        Receives member, epoch, loss, validation_loss, best and learning_rate after each epoch.
    meta : mapping, optional
        Further entries of the record of the training.
    **how
        kind, space, law, r_v, per_ebv and truncate of the residuals, where they do not say so themselves.

    Returns
    -------
    WiggleCorrection
        The network; its `training` has losses and test residuals.

    Raises
    ------
    XpjaxError
        Where it is not or differently said how the residuals were made; for too few stars, a feature that is the same
        for all stars, and a checkpoint of another training.

    Examples
    --------
    >>> x, grid = np.linspace(0, 1, 60)[:, None], np.linspace(400.0, 900.0, 30)
    >>> data = xpjax.wiggles.Residuals(np.arange(1, 61), ("BP-RP",), x, grid, 0.02 * np.sin(grid / 50 + x))
    >>> settings = xpjax.wiggles.TrainingSettings(widths=(8,), epochs=3)
    >>> how = {"kind": "multiplicative", "space": "observed", "truncate": False}
    >>> xpjax.wiggles.train_network(data, settings, **how).training["n_star"]
    60
    """
    settings = settings or TrainingSettings()
    data = residuals if isinstance(residuals, Residuals) else read_residuals(residuals, names or ())
    meaning = data.meaning.completed(data.origin, **how)
    used, dropped = _usable(data, data.stars if names is None else data.stars.select(names))
    task = _task(used, settings, meaning.kind == "additive")
    networks, record = [], _record(task, settings, meaning, dropped)
    fingerprint = _fingerprint(used, settings, task.centered)
    with engine.precision(False), jax.default_device(engine.find_devices(device)[0]):
        test = task.on_device(task.parts[2])
        for member in range(n_network):
            own = [*(task.on_device(rows) for rows in _own_split(task.parts, settings.seed, member)), test]
            saved = (Path(f"{checkpoint}.{member}") if checkpoint else None, checkpoint_epochs, fingerprint)
            run = train_one(own, settings, member, task.centered, task.size, *saved, progress)
            networks.append(_folded(run.state.best, task))
            record["history"].append(run.history)
            record["test_loss"].append(_loss(run.state.best, test, settings, task))
    model = _corrects(networks, task, meaning)
    # What validates one network of an ensemble trains others.
    held_out = used[np.concatenate(task.parts[1:]) if n_network == 1 else task.parts[2]]
    record |= {**_test_residuals(model, used[task.parts[2]]), **(meta or {})}
    return dataclasses.replace(model, systematic=systematic_table(model, held_out), record=json.dumps(record))


def _loss(network: Network, data: Data, settings: TrainingSettings, task: _Task) -> float:
    """Mean square of the normalized flux that a network leaves."""
    return float(mean_square(network, data, settings.batch, task.centered)) * task.size**2


def _test_residuals(model: WiggleCorrection, test: Residuals) -> dict[str, float]:
    """RMS of the residuals of the test stars, before and after the correction."""
    before, after = (float(np.sqrt(np.nanmean(x**2))) for x in (test.residual, remaining(model, test)))
    return {"test_rms_before": before, "test_rms_after": after}


@dataclasses.dataclass(frozen=True)
class _Task:
    """Stars that are learned from, their split, and standardized targets (n, m) with weights, mean (m,) and scale."""

    used: Residuals
    parts: tuple[np.ndarray, np.ndarray, np.ndarray]
    feature_mean: np.ndarray
    feature_scale: np.ndarray
    target: np.ndarray
    weight: np.ndarray
    mean: np.ndarray
    size: float
    centered: bool

    def on_device(self, rows: np.ndarray) -> Data:
        """What some of the stars are to an epoch."""
        x = jnp.asarray((self.used.features[rows] - self.feature_mean) / self.feature_scale, jnp.float32)
        return Data(x, jnp.asarray(self.target[rows]), jnp.asarray(self.weight[rows]))


def _task(used: Residuals, settings: TrainingSettings, centered: bool) -> _Task:
    parts = split_sources(len(used), settings.split, settings.seed)
    mean, scale = used.features[parts[0]].mean(axis=0), used.features[parts[0]].std(axis=0)
    flat = [name for name, s, m in zip(used.names, scale, mean, strict=True) if s <= 1e-9 * max(abs(m), 1)]
    if flat:
        remedy = f"leave them out of {say('names', '--features')}"
        raise XpjaxError(f"features {flat} are the same for all stars and tell nothing: {remedy}")
    return _Task(used, parts, mean, scale, *_targets(used, parts[0]), centered)


def _record(task: _Task, settings: TrainingSettings, meaning: Meaning, dropped: dict[str, int]) -> dict[str, Any]:
    """What is known of a training before its end."""
    return {
        "xpjax": __version__,
        "settings": dataclasses.asdict(settings),
        "base": task.used.base,
        "gaia": meaning.gaia,
        "n_star": len(task.used),
        "n_dropped": dropped,
        "n_split": [len(rows) for rows in task.parts],
        "history": [],
        "history_columns": ["loss", "validation_loss", "learning_rate"],
        "test_loss": [],
    }


def _corrects(networks: Sequence[Network], task: _Task, meaning: Meaning) -> WiggleCorrection:
    """The correction of these networks."""
    used = task.used
    value = used.features[np.sort(np.concatenate(task.parts[:2]))]
    scaling = (task.feature_mean, task.feature_scale, value.min(axis=0), value.max(axis=0))
    how: dict[str, Any] = {name: getattr(meaning, name) for name in ("kind", "space", "law")}
    how |= {name: np.asarray(getattr(meaning, name)) for name in ("r_v", "per_ebv")} | {"blend": np.asarray(BLEND)}
    how |= {"wavelength": np.asarray(used.wavelength, float), "truncate": bool(meaning.truncate), "base": used.base}
    how |= {} if meaning.release is None else {"release": meaning.release}
    return WiggleCorrection(tuple(networks), *scaling, systematic=None, names=used.names, **how)


def _own_split(
    parts: tuple[np.ndarray, np.ndarray, np.ndarray], seed: int, member: int
) -> tuple[np.ndarray, np.ndarray]:
    """Rows of training and validation of one network: others of an ensemble share out the same stars anew.

    So their scatter also has what the choice of stars does, and together they learn from all but the test stars.
    """
    if member == 0:
        return parts[0], parts[1]
    pool = np.random.default_rng([seed, 61, member]).permutation(np.concatenate(parts[:2]))
    return np.sort(pool[: len(parts[0])]), np.sort(pool[len(parts[0]) :])


def _usable(residuals: Residuals, stars: Features) -> tuple[Residuals, dict[str, int]]:
    """The rows to learn from these features, one for each source, and how many were left out and why."""
    residuals = dataclasses.replace(residuals, names=stars.names, features=stars.value)
    there = np.isfinite(residuals.residual)
    if residuals.weight is not None:
        there = there & (np.nan_to_num(residuals.weight) > 0)
    reasons = {
        "no source_id": residuals.source_id == 0,
        "repeated source": repeated(residuals.source_id) & (residuals.source_id != 0),
        "missing features": ~np.isfinite(residuals.features).all(axis=1),
        "no samples": ~there.any(axis=1),
    }
    bad = np.any(list(reasons.values()), axis=0)
    counts = {name: int(rows.sum()) for name, rows in reasons.items()}
    if len(residuals) - bad.sum() < FEWEST:
        said = ", ".join(f"{count} {name}" for name, count in counts.items() if count) or "none left out"
        raise XpjaxError(
            f"{len(residuals) - bad.sum()} of {len(residuals)} stars can be trained on ({said}); {FEWEST} are needed"
        )
    return residuals[np.flatnonzero(~bad)], counts


def _targets(used: Residuals, train_rows: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray, float]:
    """Standardized targets and weights float32, and their mean (m,) and scale: one scale, so that losses compare."""
    there = np.isfinite(used.residual)
    weight: np.ndarray = there if used.weight is None else np.where(there, np.nan_to_num(used.weight), 0)
    # One weight a star where none is missing: it saves a third of the memory.
    weight = np.ones((len(used), 1)) if used.weight is None and there.all() else weight
    weight = weight.astype(np.float32)
    value = np.where(there, used.residual, 0.0)
    own = np.broadcast_to(weight, value.shape)[train_rows].astype(float)
    total = own.sum(axis=0)
    middle = (own * value[train_rows]).sum(axis=0) / np.where(total > 0, total, 1)
    size = float(np.sqrt((own * (value[train_rows] - middle) ** 2).sum() / own.sum()))
    if size == 0:
        raise XpjaxError("all residuals are the same: there is nothing to learn")
    return np.asarray((value - middle) / size, np.float32), weight, middle, size


def _folded(network: Network, task: _Task) -> Network:
    """The network with the scale and mean of the targets in its last layer; centered over the wavelengths."""
    *weight, last = (np.asarray(w, float) for w in network.weight)
    *bias, end = (np.asarray(b, float) for b in network.bias)
    last, end = last * task.size, end * task.size
    if task.centered:
        last, end = last - last.mean(axis=1, keepdims=True), end - end.mean()
    end = end + task.mean - (task.mean.mean() if task.centered else 0.0)
    return Network(
        tuple(w.astype(np.float32) for w in (*weight, last)), tuple(b.astype(np.float32) for b in (*bias, end))
    )


def split_sources(n: int, split: Sequence[float], seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Rows of training, validation and test of n stars, by chance, at least one in each."""
    order = np.random.default_rng([seed, 60]).permutation(n)
    first = min(max(round(split[0] * n), 1), n - 2)
    second = min(max(round(split[1] * n), 1), n - first - 1)
    return np.sort(order[:first]), np.sort(order[first : first + second]), np.sort(order[first + second :])


def _fingerprint(used: Residuals, settings: TrainingSettings, centered: bool) -> str:
    """What a checkpoint must agree with: the data and all settings but the number of epochs."""
    digest = hashlib.sha256()
    for array in (used.source_id, used.features, used.wavelength, used.residual, used.weight):
        if array is not None:
            digest.update(np.ascontiguousarray(array).tobytes())
    asked = (dataclasses.replace(settings, epochs=1), centered, used.names, *[used.base] * (used.base != NONE))
    digest.update(repr(asked).encode())
    return digest.hexdigest()
