"""Training of wiggle corrections on residuals: true minus observed mean-normalised flux.

    loss = sum weight (network(features) - residual)^2 / sum weight

Adam, its learning rate halved where the validation loss has not improved for a while (Ye et al. 2024 say "after 15
epochs"; read as 15 without gain), stopped after a longer while, the best epoch kept. Features and residuals are
standardised: raw residuals of some percent under a layer of usual size make every ReLU die. An additive residual has
zero mean over the wavelengths by construction, and so has the network's output: its last layer is centred.

Data stay on the device, and an epoch is one compiled program. Everything follows from the seed and the number of the
epoch, so that a run that was killed and resumed from its checkpoint ends as one that was not.
"""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import io
import itertools
import json
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from xpjax.core import engine
from xpjax.core.errors import XpjaxError, say
from xpjax.core.version import __version__
from xpjax.io.catalogue import write_bytes
from xpjax.wiggles.features import Features
from xpjax.wiggles.meaning import Meaning
from xpjax.wiggles.network import BLEND, Network, SystematicTable, WiggleCorrection
from xpjax.wiggles.residuals import Residuals
from xpjax.xp import NONE

WIDTHS = {
    "paper": (128, 512, 1024, 1024, 1024, 1024, 1024),
    "small": (64, 64),
}
"""Hidden layers by name: those of Ye et al. (2024), and a default whose test loss on mocks is that of larger ones."""
STEPS = 32
"""Fewer steps an epoch are too few."""
FEWEST = 10
"""Stars without which there is nothing to split."""
SPLIT = (0.6, 0.2, 0.2)
"""Shares of training, validation and test."""
EDGES = {"color": np.arange(-0.5, 4.1, 0.5), "g": np.arange(4.0, 18.1, 1.0), "ebv": np.array([0.0, 0.1, 0.3, 1.0, 5.0])}
"""Bins of the table of systematic errors."""
PER_BIN = 20
"""Bins with fewer stars take the figures of all stars."""


@dataclasses.dataclass(frozen=True)
class TrainingSettings:
    """How a network is trained: widths of hidden layers, most epochs, stars in a batch, first learning rate.

    batch: fewer, down to 16, where an epoch would have less than 32 steps.
    patience: epochs without gain before the rate is halved, down to floor; stop: before training ends. A gain is a
    validation loss below (1 - least_gain) times the best. decay: of the weights (AdamW), against overfitting of small
    sets. split: shares of training, validation and test.
    """

    widths: tuple[int, ...] = WIDTHS["small"]
    epochs: int = 1000
    batch: int = 512
    learning_rate: float = 1e-3
    patience: int = 15
    floor: float = 1e-6
    stop: int = 25
    least_gain: float = 0.0
    decay: float = 0.0
    split: tuple[float, float, float] = SPLIT
    seed: int = 0

    def __post_init__(self) -> None:
        if not self.widths or min(self.widths) < 1:
            raise XpjaxError(f"widths {self.widths}: give one or more positive sizes of hidden layers")
        if min(self.epochs, self.batch, self.patience, self.stop) < 1:
            raise XpjaxError("epochs, batch, patience and stop must be positive")
        if not self.learning_rate >= self.floor > 0:
            raise XpjaxError(f"learning rate {self.learning_rate:g} must be at least the floor, {self.floor:g} > 0")
        if min(self.split) <= 0 or abs(sum(self.split) - 1) > 1e-6:
            raise XpjaxError(f"split {self.split}: three positive shares that add up to one")


class _Data(eqx.Module):
    """Scaled features (n, k), targets (n, m) and weights (n, m) or (n, 1), on the device."""

    x: Float[Array, "n k"]
    target: Float[Array, "n m"]
    weight: Float[Array, "n m"]


class _State(eqx.Module):
    """What an epoch changes: weights, Adam's moments, and the best weights so far."""

    network: Network
    optimiser: Any
    best: Network
    best_loss: Float[Array, ""]


def split_sources(n: int, split: Sequence[float], seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Rows of training, validation and test of n stars, by chance, at least one in each."""
    order = np.random.default_rng([seed, 60]).permutation(n)
    first = min(max(round(split[0] * n), 1), n - 2)
    second = min(max(round(split[1] * n), 1), n - first - 1)
    return np.sort(order[:first]), np.sort(order[first : first + second]), np.sort(order[first + second :])


def first_network(sizes: Sequence[int], seed: Sequence[int]) -> Network:
    """Random weights for layers of these sizes (He et al. 2015), the last one a tenth of that; biases zero."""
    rng = np.random.default_rng(list(seed))
    weight = [rng.normal(size=s) * np.sqrt(2 / s[0]) for s in itertools.pairwise(sizes)]
    weight[-1] *= 0.1
    return Network(tuple(w.astype(np.float32) for w in weight), tuple(np.zeros(n, np.float32) for n in sizes[1:]))


def _outputs(network: Network, x: Array, centred: bool) -> Array:
    out = jax.vmap(network)(x)
    return out - out.mean(axis=-1, keepdims=True) if centred else out


def _squares(network: Network, data: _Data, centred: bool) -> tuple[Array, Array]:
    """Weighted sum of squares, and the sum of weights, over all samples."""
    square = data.weight * (_outputs(network, data.x, centred) - data.target) ** 2
    return square.sum(), jnp.broadcast_to(data.weight, square.shape).sum()


@functools.cache
def _epoch(settings: TrainingSettings, centred: bool) -> Callable[..., tuple[_State, Array, Array]]:
    """The compiled epoch: (state, training, validation, key, rate) -> state and both losses."""
    import optax

    adam = optax.scale_by_adam()

    def loss(network: Network, data: _Data) -> Array:
        total, weight = _squares(network, data, centred)
        return total / jnp.maximum(weight, 1e-20)

    def epoch(state: _State, train: _Data, valid: _Data, key: Array, rate: Array) -> tuple[_State, Array, Array]:
        n = train.x.shape[0]
        batch = min(settings.batch, max(n // STEPS, 16), n)
        # What is left over by whole batches is another part in each epoch.
        order = jax.random.permutation(key, n)[: n // batch * batch].reshape(-1, batch)

        def step(carry: tuple[Network, Any], rows: Array) -> tuple[tuple[Network, Any], Array]:
            network, optimiser = carry
            value, gradient = jax.value_and_grad(loss)(network, jax.tree.map(lambda a: a[rows], train))
            update, optimiser = adam.update(gradient, optimiser)
            network = jax.tree.map(lambda a, u: a - rate * (u + settings.decay * a), network, update)
            return (network, optimiser), value

        (network, optimiser), losses = jax.lax.scan(step, (state.network, state.optimiser), order)
        judged = _mean_square(network, valid, settings.batch, centred)
        better = judged < state.best_loss * (1 - settings.least_gain)
        best = jax.tree.map(lambda new, old: jnp.where(better, new, old), network, state.best)
        return _State(network, optimiser, best, jnp.where(better, judged, state.best_loss)), losses.mean(), judged

    return jax.jit(epoch, donate_argnums=0)


def _mean_square(network: Network, data: _Data, batch: int, centred: bool) -> Array:
    """Weighted mean square over all stars, batch by batch: rows that pad the last one weigh nothing."""
    n = data.x.shape[0]
    batch = min(batch, n)
    padding = -n % batch
    padded = jax.tree.map(lambda a: jnp.pad(a, ((0, padding), (0, 0))).reshape(-1, batch, a.shape[1]), data)
    totals, weights = jax.lax.map(lambda part: _squares(network, part, centred), padded)
    return totals.sum() / jnp.maximum(weights.sum(), 1e-20)


@dataclasses.dataclass
class _Run:
    """One network's training as far as it has come."""

    state: Any
    epoch: int = 0
    rate: float = 0.0
    since_gain: int = 0
    since_halving: int = 0
    done: bool = False
    history: list[list[float]] = dataclasses.field(default_factory=list)


@dataclasses.dataclass(frozen=True)
class Step:
    """What `progress` is told after an epoch; losses are mean squares of normalised flux."""

    member: int
    epoch: int
    loss: float
    validation_loss: float
    best: float
    learning_rate: float


def train_network(
    residuals: Residuals,
    settings: TrainingSettings | None = None,
    *,
    names: Sequence[str] | None = None,
    n_network: int = 1,
    kind: str | None = None,
    space: str | None = None,
    law: str | None = None,
    r_v: float | None = None,
    per_ebv: float | None = None,
    blend: float = BLEND,
    truncate: bool | None = None,
    checkpoint: str | Path | None = None,
    checkpoint_epochs: int = 10,
    device: Any = None,
    progress: Callable[[Step], object] | None = None,
) -> WiggleCorrection:
    """A correction trained on residuals, with its losses, its test figures and a table of what it leaves.

    names: some of the features. n_network: how many networks, each from other random weights and with other stars to
    validate, make an ensemble. kind, space, law, r_v, per_ebv and truncate: how the residuals were made, and so the
    correction is to be applied (see `Meaning`), where the residuals do not say so themselves. blend as in
    `WiggleCorrection`. checkpoint: a file; training goes on from it where it exists, and it is written every
    checkpoint_epochs epochs and at the end (one file a network, CHECKPOINT.0 and so on). device: see
    `engine.find_devices`; the first one is used.

    Rows with missing features or no samples, with source_id 0, or of a source that came before, are left out. Raises
    ValueError where neither residuals nor arguments say how residuals were made, or they differ; where too few stars
    are left, for a feature that is the same for all of them, and for a checkpoint of another training.
    """
    settings = settings or TrainingSettings()
    meaning = residuals.meaning.completed(
        residuals.origin, kind=kind, space=space, law=law, r_v=r_v, per_ebv=per_ebv, truncate=truncate
    )
    chosen = residuals if names is None else _selected(residuals, names)
    used, dropped = _usable(chosen)
    parts = split_sources(len(used), settings.split, settings.seed)
    mean, scale = used.features[parts[0]].mean(axis=0), used.features[parts[0]].std(axis=0)
    flat = [name for name, s, m in zip(used.names, scale, mean, strict=True) if s <= 1e-9 * max(abs(m), 1)]
    if flat:
        remedy = f"leave them out of {say('names', '--features')}"
        raise XpjaxError(f"features {flat} are the same for all stars and tell nothing: {remedy}")
    target, weight, middle, size = _targets(used, parts[0])
    centred = meaning.kind == "additive"
    fingerprint = _fingerprint(used, settings, centred)
    networks, histories, tests = [], [], []
    with engine.precision(False), jax.default_device(engine.find_devices(device)[0]):

        def on_device(rows: np.ndarray) -> _Data:
            x = jnp.asarray((used.features[rows] - mean) / scale, jnp.float32)
            return _Data(x, jnp.asarray(target[rows]), jnp.asarray(weight[rows]))

        held_back = on_device(parts[2])
        for member in range(n_network):
            data = [*(on_device(rows) for rows in _own_split(parts, settings.seed, member)), held_back]
            path = None if checkpoint is None else Path(f"{checkpoint}.{member}")
            run = _train_one(data, settings, member, centred, size, path, checkpoint_epochs, fingerprint, progress)
            networks.append(_folded(run.state.best, size, middle, centred))
            histories.append(run.history)
            tests.append(float(_mean_square(run.state.best, data[2], settings.batch, centred)) * size**2)
    record: dict[str, Any] = {
        "xpjax": __version__,
        "settings": dataclasses.asdict(settings),
        "base": used.base,
        "gaia": meaning.gaia,
        "n_star": len(used),
        "n_dropped": dropped,
        "n_split": [len(rows) for rows in parts],
        "history": histories,
        "history_columns": ["loss", "validation_loss", "learning_rate"],
        "test_loss": tests,
    }
    value = used.features[np.sort(np.concatenate([parts[0], parts[1]]))]
    model = _corrects(networks, mean, scale, value, used, meaning, blend)
    # What validates one network of an ensemble trains others.
    held_out = used[np.concatenate([parts[1], parts[2]]) if n_network == 1 else parts[2]]
    before, after = (
        float(np.sqrt(np.nanmean(x**2))) for x in (used.residual[parts[2]], remaining(model, used[parts[2]]))
    )
    record |= {"test_rms_before": before, "test_rms_after": after}
    return dataclasses.replace(model, systematic=systematic_table(model, held_out), record=json.dumps(record))


def _corrects(
    networks: Sequence[Network],
    mean: np.ndarray,
    scale: np.ndarray,
    value: np.ndarray,
    used: Residuals,
    meaning: Meaning,
    blend: float,
) -> WiggleCorrection:
    """The correction of these networks; value (n, n_feature): features of the stars that they learned from."""
    assert meaning.kind is not None and meaning.space is not None and meaning.law is not None  # noqa: PT018
    return WiggleCorrection(
        tuple(networks),
        mean,
        scale,
        value.min(axis=0),
        value.max(axis=0),
        np.asarray(used.wavelength, float),
        np.asarray(blend),
        np.asarray(meaning.r_v),
        np.asarray(meaning.per_ebv),
        None,
        used.names,
        meaning.kind,
        meaning.space,
        meaning.law,
        bool(meaning.truncate),
        base=used.base,
    )


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


def _selected(residuals: Residuals, names: Sequence[str]) -> Residuals:
    stars = residuals.stars.select(names)
    return dataclasses.replace(residuals, names=stars.names, features=stars.value)


def _usable(residuals: Residuals) -> tuple[Residuals, dict[str, int]]:
    """The rows to learn from, one for each source, and how many were left out and why."""
    there = np.isfinite(residuals.residual)
    if residuals.weight is not None:
        there = there & (np.nan_to_num(residuals.weight) > 0)
    _, first = np.unique(residuals.source_id, return_index=True)
    repeated = np.ones(len(residuals), bool)
    repeated[first] = False
    reasons = {
        "no source_id": residuals.source_id == 0,
        "repeated source": repeated & (residuals.source_id != 0),
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
    """Standardised targets and weights float32, and their mean (m,) and scale: one scale, so that losses compare."""
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


def _folded(network: Network, size: float, middle: np.ndarray, centred: bool) -> Network:
    """The network with the scale and mean of the targets in its last layer; centred over the wavelengths."""
    *weight, last = (np.asarray(w, float) for w in network.weight)
    *bias, end = (np.asarray(b, float) for b in network.bias)
    last, end = last * size, end * size
    if centred:
        last, end = last - last.mean(axis=1, keepdims=True), end - end.mean()
    end = end + middle - (middle.mean() if centred else 0.0)
    return Network(
        tuple(w.astype(np.float32) for w in (*weight, last)), tuple(b.astype(np.float32) for b in (*bias, end))
    )


def _train_one(
    data: list[_Data],
    settings: TrainingSettings,
    member: int,
    centred: bool,
    size: float,
    path: Path | None,
    checkpoint_epochs: int,
    fingerprint: str,
    progress: Callable[[Step], object] | None,
) -> _Run:
    """One network, from its checkpoint where there is one."""
    import optax

    sizes = (data[0].x.shape[1], *settings.widths, data[0].target.shape[1])
    network = jax.tree.map(jnp.asarray, first_network(sizes, (settings.seed, member)))
    copy = jax.tree.map(jnp.copy, network)
    start = _State(network, optax.scale_by_adam().init(network), copy, jnp.asarray(jnp.inf, jnp.float32))
    run = _Run(start, rate=settings.learning_rate)
    if path is not None and path.exists():
        run = _load(path, start, fingerprint)
    # Epochs and batches are a fixed sequence of the seed: only then is a resumed run the same.
    key = jax.random.fold_in(jax.random.key(settings.seed), member)
    epoch = _epoch(dataclasses.replace(settings, seed=0, epochs=1), centred)
    while not run.done and run.epoch < settings.epochs:
        before = float(run.state.best_loss)
        rate = jnp.asarray(run.rate, jnp.float32)
        run.state, *losses = epoch(run.state, data[0], data[1], jax.random.fold_in(key, run.epoch), rate)
        run.epoch += 1
        loss, judged, best = (float(value) * size**2 for value in (*losses, run.state.best_loss))
        if not np.isfinite(loss):
            raise XpjaxError(
                f"the loss is {loss} after epoch {run.epoch}: lower the learning rate, or look for outliers in the "
                "residuals"
            )
        run.history.append([loss, judged, run.rate])
        gained = float(run.state.best_loss) < before
        run.since_gain = 0 if gained else run.since_gain + 1
        run.since_halving = 0 if gained else run.since_halving + 1
        if run.since_halving >= settings.patience:
            run.rate, run.since_halving = max(run.rate / 2, settings.floor), 0
        run.done = run.since_gain >= settings.stop
        if progress is not None:
            progress(Step(member, run.epoch, loss, judged, best, run.history[-1][2]))
        if path is not None and (run.done or run.epoch % checkpoint_epochs == 0 or run.epoch == settings.epochs):
            _save(path, run, fingerprint)
    return run


def _fingerprint(used: Residuals, settings: TrainingSettings, centred: bool) -> str:
    """What a checkpoint must agree with: the data and all settings but the number of epochs."""
    digest = hashlib.sha256()
    for array in (used.source_id, used.features, used.wavelength, used.residual, used.weight):
        if array is not None:
            digest.update(np.ascontiguousarray(array).tobytes())
    asked = (dataclasses.replace(settings, epochs=1), centred, used.names, *[used.base] * (used.base != NONE))
    digest.update(repr(asked).encode())
    return digest.hexdigest()


def _save(path: Path, run: _Run, fingerprint: str) -> None:
    """A checkpoint, whole or not at all."""
    buffer = io.BytesIO()
    plain = {f.name: getattr(run, f.name) for f in dataclasses.fields(run) if f.name != "state"}
    leaves = {f"leaf_{k}": np.asarray(leaf) for k, leaf in enumerate(jax.tree.leaves(run.state))}
    np.savez(buffer, fingerprint=np.array(fingerprint), run=np.array(json.dumps(plain)), **leaves)  # type: ignore[arg-type]
    write_bytes(path, buffer.getvalue())


def _load(path: Path, start: _State, fingerprint: str) -> _Run:
    """The run of a checkpoint. Raises ValueError for one of other data or settings."""
    try:
        with np.load(path) as file:
            found, plain = str(file["fingerprint"]), json.loads(str(file["run"]))
            leaves = [jnp.asarray(file[f"leaf_{k}"]) for k in range(len(jax.tree.leaves(start)))]
    except (OSError, ValueError, KeyError) as error:
        raise XpjaxError(f"{path} is no checkpoint of a training ({error}); name another file") from error
    if found != fingerprint:
        raise XpjaxError(f"{path} is a checkpoint of other residuals or settings; remove it, or name another file")
    return _Run(jax.tree.unflatten(jax.tree.structure(start), leaves), **plain)


def remove_checkpoints(checkpoint: str | Path, n_network: int = 1) -> None:
    """Remove the checkpoint files of a training that is done."""
    for member in range(n_network):
        path = Path(f"{checkpoint}.{member}")
        if path.exists():
            os.remove(path)


# --- what is left -----------------------------------------------------------------------------------------------------


def _pattern_kernel(model: WiggleCorrection, x: Array) -> Array:
    return jnp.stack([network(x) for network in model.networks]).mean(0)


def predict(model: WiggleCorrection, stars: Features, *, devices: Any = None) -> np.ndarray:
    """The correction w (n, n_wavelength) of stars by their features, NaN where a feature is missing."""
    value = stars.select(model.names).value
    x = (value - np.asarray(model.feature_mean)) / np.asarray(model.feature_scale)
    bare = dataclasses.replace(model, systematic=None, record="{}")
    return engine.run(_pattern_kernel, bare, x, devices=devices, work_bytes=4 * sum(model.networks[0].widths))


def remaining(model: WiggleCorrection, residuals: Residuals) -> np.ndarray:
    """What the correction leaves of residuals (n, n_wavelength)."""
    return np.asarray(residuals.residual) - predict(model, residuals.stars)


def systematic_table(model: WiggleCorrection, held_out: Residuals) -> SystematicTable:
    """RMS of what is left in bins of BP-RP, G and E(B-V), of stars that were not trained on.

    An axis whose feature is not there has one node. Noise of the residuals is part of the figures: they are an upper
    limit.
    """
    left = remaining(model, held_out)
    stars = held_out.stars
    columns = {"color": "BP-RP", "g": "G", "ebv": "E(B-V)"}
    nodes, place = {}, np.zeros(len(left), int)
    for axis, name in columns.items():
        x = stars.value[:, stars.names.index(name)] if name in stars.names else None
        if axis == "ebv" and x is None:
            x = stars.ebv
        if x is None or not np.isfinite(x).all():
            nodes[axis] = np.zeros(1)
            continue
        edges = EDGES[axis]
        inner = edges[(edges > x.min()) & (edges < x.max())]
        edges = np.concatenate([[x.min()], inner, [x.max()]])
        nodes[axis] = 0.5 * (edges[1:] + edges[:-1])
        bins = np.clip(np.searchsorted(inner, x, side="right"), 0, len(nodes[axis]) - 1)
        place = place * len(nodes[axis]) + bins
    shape = tuple(len(n) for n in nodes.values())
    square = np.where(np.isfinite(left), left**2, 0)
    count = np.isfinite(left).astype(float)
    n_bin = int(np.prod(shape))
    sums, counts = np.zeros((n_bin, left.shape[1])), np.zeros((n_bin, left.shape[1]))
    np.add.at(sums, place, square)
    np.add.at(counts, place, count)
    overall = square.sum(axis=0) / np.maximum(count.sum(axis=0), 1)
    value = np.where(counts >= PER_BIN, sums / np.maximum(counts, 1), overall)
    return SystematicTable(nodes["color"], nodes["g"], nodes["ebv"], np.sqrt(value).reshape(*shape, -1))
