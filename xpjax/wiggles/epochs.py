"""Epochs of a training: one compiled program each, and the state of a run, which a checkpoint holds."""

from __future__ import annotations

import dataclasses
import functools
import io
import itertools
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from xpjax.core.errors import XpjaxError, say
from xpjax.io.atomic import write_bytes
from xpjax.wiggles.network import Network

WIDTHS = {"paper": (128, 512, 1024, 1024, 1024, 1024, 1024), "small": (64, 64)}
"""Hidden layers by name: those of Ye et al. (2024), and a default whose test loss on mocks is that of larger ones."""
STEPS = 32
"""Fewer steps an epoch are too few."""
SPLIT = (0.6, 0.2, 0.2)
"""Shares of training, validation and test."""


@dataclasses.dataclass(frozen=True)
class TrainingSettings:
    """Say how a network is trained.

    Parameters
    ----------
    widths : tuple of int or str
        Sizes of the hidden layers, or their name: "small" (64, 64) or "paper", those of Ye et al. (2024).
    epochs : int
        Most epochs.
    batch : int
        Stars in a batch, at most; fewer, down to 16, where an epoch would have less than 32 steps.
    learning_rate : float
        First learning rate of Adam.
    patience : int
        Epochs without gain before the learning rate is halved, down to `floor`.
    floor : float
        Least learning rate.
    stop : int
        Epochs without gain before training ends.
    least_gain : float
        A gain is a validation loss below (1 - least_gain) times the best one.
    decay : float
        Decay of the weights (AdamW), against overfitting of small sets.
    split : (float, float, float)
        Shares of training, validation and test stars.
    seed : int
        Of split, weights and batches.

    Raises
    ------
    XpjaxError
        For numbers out of range and layers of no known name.

    Examples
    --------
    >>> xpjax.wiggles.TrainingSettings(widths="small", epochs=200).widths
    (64, 64)
    """

    widths: Sequence[int] | str = WIDTHS["small"]
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
        object.__setattr__(self, "widths", widths := _widths(self.widths))
        if not widths or min(widths) < 1:
            raise XpjaxError(f"widths {widths}: give one or more positive sizes of hidden layers")
        if min(self.epochs, self.batch, self.patience, self.stop) < 1:
            raise XpjaxError("epochs, batch, patience and stop must be positive")
        if not self.learning_rate >= self.floor > 0:
            raise XpjaxError(f"learning rate {self.learning_rate:g} must be at least the floor, {self.floor:g} > 0")
        if min(self.split) <= 0 or abs(sum(self.split) - 1) > 1e-6:
            raise XpjaxError(f"split {self.split}: three positive shares that add up to one")


def _widths(given: Any) -> tuple[int, ...]:
    """Hidden layers by their name, by sizes as in "128,512", or as they are. Raises XpjaxError."""
    if not isinstance(given, str):
        return tuple(given)
    if given in WIDTHS:
        return WIDTHS[given]
    try:
        return tuple(int(part) for part in given.split(","))
    except ValueError:
        option = say(f"widths={given!r}", f"--widths {given!r}")
        raise XpjaxError(f"{option}: give {', '.join(WIDTHS)}, or sizes as in 128,512") from None


class Data(eqx.Module):
    """Scaled features (n, k), targets (n, m) and weights (n, m) or (n, 1), on the device."""

    x: Float[Array, "n k"]
    target: Float[Array, "n m"]
    weight: Float[Array, "n m"]


class State(eqx.Module):
    """What an epoch changes: weights, Adam's moments, and the best weights so far."""

    network: Network
    optimizer: Any
    best: Network
    best_loss: Float[Array, ""]


def first_network(sizes: Sequence[int], seed: Sequence[int]) -> Network:
    """Random weights for layers of these sizes (He et al. 2015), the last one a tenth of that; biases zero."""
    rng = np.random.default_rng(list(seed))
    weight = [rng.normal(size=s) * np.sqrt(2 / s[0]) for s in itertools.pairwise(sizes)]
    weight[-1] *= 0.1
    return Network(tuple(w.astype(np.float32) for w in weight), tuple(np.zeros(n, np.float32) for n in sizes[1:]))


def _squares(network: Network, data: Data, centered: bool) -> tuple[Array, Array]:
    """Weighted sum of squares, and the sum of weights, over all samples."""
    out = jax.vmap(network)(data.x)
    out = out - out.mean(axis=-1, keepdims=True) if centered else out
    square = data.weight * (out - data.target) ** 2
    return square.sum(), jnp.broadcast_to(data.weight, square.shape).sum()


@functools.cache
def compiled_epoch(settings: TrainingSettings, centered: bool) -> Callable[..., tuple[State, Array, Array]]:
    """The compiled epoch: (state, training, validation, key, rate) -> state and both losses."""
    import optax

    adam = optax.scale_by_adam()

    def loss(network: Network, data: Data) -> Array:
        total, weight = _squares(network, data, centered)
        return total / jnp.maximum(weight, 1e-20)

    def epoch(state: State, train: Data, valid: Data, key: Array, rate: Array) -> tuple[State, Array, Array]:
        n = train.x.shape[0]
        batch = min(settings.batch, max(n // STEPS, 16), n)
        # What is left over by whole batches is another part in each epoch.
        order = jax.random.permutation(key, n)[: n // batch * batch].reshape(-1, batch)

        def step(carry: tuple[Network, Any], rows: Array) -> tuple[tuple[Network, Any], Array]:
            network, optimizer = carry
            value, gradient = jax.value_and_grad(loss)(network, jax.tree.map(lambda a: a[rows], train))
            update, optimizer = adam.update(gradient, optimizer)
            network = jax.tree.map(lambda a, u: a - rate * (u + settings.decay * a), network, update)
            return (network, optimizer), value

        (network, optimizer), losses = jax.lax.scan(step, (state.network, state.optimizer), order)
        judged = mean_square(network, valid, settings.batch, centered)
        better = judged < state.best_loss * (1 - settings.least_gain)
        best = jax.tree.map(lambda new, old: jnp.where(better, new, old), network, state.best)
        return State(network, optimizer, best, jnp.where(better, judged, state.best_loss)), losses.mean(), judged

    return jax.jit(epoch, donate_argnums=0)


def mean_square(network: Network, data: Data, batch: int, centered: bool) -> Array:
    """Weighted mean square over all stars, batch by batch: rows that pad the last one weigh nothing."""
    n = data.x.shape[0]
    batch = min(batch, n)
    padding = -n % batch
    padded = jax.tree.map(lambda a: jnp.pad(a, ((0, padding), (0, 0))).reshape(-1, batch, a.shape[1]), data)
    totals, weights = jax.lax.map(lambda part: _squares(network, part, centered), padded)
    return totals.sum() / jnp.maximum(weights.sum(), 1e-20)


@dataclasses.dataclass
class Run:
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
    """What `progress` is told after an epoch; losses are mean squares of normalized flux."""

    member: int
    epoch: int
    loss: float
    validation_loss: float
    best: float
    learning_rate: float


def train_one(
    data: list[Data],
    settings: TrainingSettings,
    member: int,
    centered: bool,
    size: float,
    path: Path | None,
    checkpoint_epochs: int,
    fingerprint: str,
    progress: Callable[[Step], object] | None,
) -> Run:
    """One network, from its checkpoint where there is one."""
    import optax

    sizes = (data[0].x.shape[1], *settings.widths, data[0].target.shape[1])
    network = jax.tree.map(jnp.asarray, first_network(sizes, (settings.seed, member)))
    copy = jax.tree.map(jnp.copy, network)
    start = State(network, optax.scale_by_adam().init(network), copy, jnp.asarray(jnp.inf, jnp.float32))
    run = Run(start, rate=settings.learning_rate)
    if path is not None and path.exists():
        run = _load(path, start, fingerprint)
    # Epochs and batches are a fixed sequence of the seed: only then is a resumed run the same.
    key = jax.random.fold_in(jax.random.key(settings.seed), member)
    epoch = compiled_epoch(dataclasses.replace(settings, seed=0, epochs=1), centered)
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


def _save(path: Path, run: Run, fingerprint: str) -> None:
    """A checkpoint, whole or not at all."""
    buffer = io.BytesIO()
    plain = {f.name: getattr(run, f.name) for f in dataclasses.fields(run) if f.name != "state"}
    leaves = {f"leaf_{k}": np.asarray(leaf) for k, leaf in enumerate(jax.tree.leaves(run.state))}
    np.savez(buffer, fingerprint=np.array(fingerprint), run=np.array(json.dumps(plain)), **leaves)  # type: ignore[arg-type]
    write_bytes(path, buffer.getvalue())


def _load(path: Path, start: State, fingerprint: str) -> Run:
    """The run of a checkpoint. Raises XpjaxError for one of other data or settings."""
    try:
        with np.load(path) as file:
            found, plain = str(file["fingerprint"]), json.loads(str(file["run"]))
            leaves = [jnp.asarray(file[f"leaf_{k}"]) for k in range(len(jax.tree.leaves(start)))]
    except (OSError, ValueError, KeyError) as error:
        raise XpjaxError(f"{path} is no checkpoint of a training ({error}); name another file") from error
    if found != fingerprint:
        raise XpjaxError(f"{path} is a checkpoint of other residuals or settings; remove it, or name another file")
    return Run(jax.tree.unflatten(jax.tree.structure(start), leaves), **plain)


def remove_checkpoints(checkpoint: str | Path, n_network: int = 1) -> None:
    """Remove the checkpoint files of a training that is done.

    Parameters
    ----------
    checkpoint : str or Path
        As it was given to `train_network`.
    n_network : int
        Number of networks of the ensemble.

    Examples
    --------
    >>> xpjax.wiggles.remove_checkpoints("network.checkpoint", 5)
    """
    for member in range(n_network):
        Path(f"{checkpoint}.{member}").unlink(missing_ok=True)
