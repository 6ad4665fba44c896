"""Wiggles injected into mock spectra, learned and taken out again; and what corrected photometry costs."""

from __future__ import annotations

import dataclasses
import functools
import json
import time
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

import xpjax
from benchmarks.harness import Row, absent, measure, product_flops
from xpjax.core import engine
from xpjax.core.constants import FLUX_UNIT
from xpjax.extinction import AV_PER_SFD, R_V, extinction_curve
from xpjax.synthetic.magnitude import Photometer
from xpjax.synthetic.passband import Passband
from xpjax.wiggles.choice import NetworkCorrection
from xpjax.wiggles.epochs import WIDTHS, Data, State, TrainingSettings, compiled_epoch, first_network
from xpjax.wiggles.features import Features, make_features
from xpjax.wiggles.judgment import predict_residuals
from xpjax.wiggles.limits import Limits, applicable, star_inputs
from xpjax.wiggles.magnitude import CorrectedPhotometer, Observed, corrected_kernel, corrected_photometry
from xpjax.wiggles.network import Network, WiggleCorrection
from xpjax.wiggles.residuals import Residuals
from xpjax.wiggles.training import train_network
from xpjax.xp import simulate
from xpjax.xp.sources import SourceTable, XPCoefficients
from xpjax.xp.wavelengths import constant_grid

WIDE = np.arange(330.0, 1050.1, 1.0)
SYSTEM = "JPLUS"


@dataclasses.dataclass
class Mock:
    """Stars with and without wiggles: sources as observed (noise, wiggles), true coefficients, E(B-V), features."""

    observed: SourceTable
    true: np.ndarray
    noiseless: np.ndarray
    ebv: np.ndarray
    stars: Features


def pattern(color: np.ndarray, g: np.ndarray, ebv: np.ndarray, wavelength: np.ndarray) -> np.ndarray:
    """Observed minus true normalized flux (n, m): peaks of 8..10 % in the blue, 2..3 % in the red, as in Ye et al."""
    x, c, b, e = wavelength[None], color[:, None], g[:, None] - 14, ebv[:, None]
    blue = 0.085 * np.exp(-(((x - 395) / 45) ** 2)) * np.sin((x - 360) / 9.0 + 1.2 * c) * np.exp(-0.25 * c)
    middle = 0.03 * np.exp(-(((x - 520) / 90) ** 2)) * np.sin((x - 500) / 22.0 + 0.8 * c + 0.1 * b)
    red = 0.025 * np.exp(-(((x - 760) / 190) ** 2)) * np.cos((x - 700) / 30.0 - 0.5 * c)
    return (blue + middle + red) * (1 + 0.08 * b) * (1 - 0.3 * e)


def make(n: int, seed: int) -> Mock:
    """n bright enough mock stars; the wiggles are put into the coefficients, so that everything sees the same ones."""
    table = simulate.simulate_sources(3 * n, seed=seed, dtype=np.float64)
    g, color = (np.asarray(table.columns[name], float) for name in ("phot_g_mean_mag", "bp_rp"))
    table = table[np.flatnonzero((g > 8) & (g < 16.5) & (color > -0.2) & (color < 2.5))[:n]]
    g, color = (np.asarray(table.columns[name], float) for name in ("phot_g_mean_mag", "bp_rp"))
    rng = np.random.default_rng(seed)
    ebv = rng.exponential(0.15, len(table)).clip(0, 1)
    true = table.coefficients.value
    design = xpjax.load_instrument().design(WIDE)
    matrix = np.asarray(design.value) * (float(design.scale) / FLUX_UNIT)
    own = xpjax.load_instrument().design(constant_grid())
    sampled = true @ (np.asarray(own.value) * (float(own.scale) / FLUX_UNIT))
    reddening = 0.4 * AV_PER_SFD * ebv[:, None]
    mean = (sampled * 10 ** (reddening * extinction_curve(constant_grid()))).mean(axis=1)
    wiggle = pattern(color, g, ebv, WIDE) * mean[:, None] * 10 ** (-reddening * extinction_curve(WIDE))
    noiseless = true + wiggle @ np.linalg.pinv(matrix, rcond=1e-4)
    c = table.coefficients
    noise = np.empty_like(true)
    for xp, rows in zip(table.release.xp, table.release.slices, strict=True):
        root = np.linalg.cholesky(xpjax.covariance_matrix(table, xp) / np.einsum("ni,nj->nij", *[c.error[:, rows]] * 2))
        noise[:, rows] = np.einsum("nij,nj->ni", root, rng.normal(size=root.shape[:2])) * c.error[:, rows]
    observed = dataclasses.replace(
        table, coefficients=XPCoefficients(noiseless + noise, c.error, c.correlation, c.n_relevant, table.release)
    )
    stars = make_features(observed, "paper", ebv=ebv)
    good = np.flatnonzero(np.isfinite(stars.value).all(axis=1))
    return Mock(observed[good], true[good], noiseless[good], ebv[good], stars[good])


def normalized(coefficients: np.ndarray, ebv: np.ndarray) -> np.ndarray:
    """Dereddened flux over its mean at the paper's wavelengths."""
    design = xpjax.load_instrument().design(constant_grid())
    flux = coefficients @ np.asarray(design.value)
    flux = flux * 10 ** (0.4 * AV_PER_SFD * ebv[:, None] * extinction_curve(constant_grid()))
    return flux / flux.mean(axis=1, keepdims=True)


def residuals(mock: Mock) -> Residuals:
    """Residuals with the inverse variances of the noise, floored at 0.5 %: few faint stars must not rule the loss."""
    seen = normalized(mock.observed.coefficients.value, mock.ebv)
    spectra = xpjax.spectra(mock.observed, constant_grid())
    assert spectra.flux_error is not None
    weight = 1 / ((spectra.flux_error / spectra.flux * seen) ** 2 + 0.005**2)
    stars = mock.stars
    return Residuals(
        mock.observed.source_id, stars.names, stars.value, constant_grid(), normalized(mock.true, mock.ebv) - seen,
        weight * 0.005**2, mock.ebv,
    )  # fmt: skip


def slope(x: np.ndarray, y: np.ndarray) -> float:
    """Of a straight line through the medians of y in ten bins of x with equal numbers of stars."""
    order = np.array_split(np.argsort(x), 10)
    return float(np.polyfit([np.median(x[k]) for k in order], [np.nanmedian(y[k]) for k in order], 1)[0])


@functools.cache
def learned(widths: tuple[int, ...]) -> tuple[WiggleCorrection, dict[str, Any], float]:
    """A network taught by mocks, its record, and the seconds that it took."""
    data = mocks()[0]
    started = time.perf_counter()
    model = train_network(data, TrainingSettings(widths=widths, epochs=400, batch=256))
    return model, json.loads(model.record), time.perf_counter() - started


@functools.cache
def mocks() -> tuple[Residuals, Mock]:
    """Residuals of stars to learn from, and other stars to look at."""
    return residuals(make(16_000, 1)), make(4000, 2)


def recovery() -> list[Row]:
    """What the default network, taught by mocks, makes of others: patterns, spectra, and J-PLUS magnitudes."""
    data, test = mocks()
    model, record, seconds = learned(WIDTHS["small"])
    inside = np.all((test.stars.value >= model.low) & (test.stars.value <= model.high), axis=1)
    test = Mock(
        test.observed[np.flatnonzero(inside)],
        test.true[inside],
        test.noiseless[inside],
        test.ebv[inside],
        test.stars[np.flatnonzero(inside)],
    )
    n = len(test.ebv)
    truth = normalized(test.true, test.ebv)
    injected = truth - normalized(test.noiseless, test.ebv)
    found = predict_residuals(model, test.stars)
    seen = normalized(test.observed.coefficients.value, test.ebv)
    noise = seen - normalized(test.noiseless, test.ebv)
    left = seen + found - truth
    rms = lambda a: float(np.sqrt(np.mean(a**2)))  # noqa: E731
    median_rms = lambda a: float(np.median(np.sqrt(np.mean(a**2, axis=1))))  # noqa: E731
    row = Row("correction", f"recovery, {record['n_split'][0]} stars to train", len(data), seconds)
    row.flops_per_source = _training_flops(model, record) / len(data)
    row.error, row.error_of = rms(found - injected), "RMS of predicted minus injected pattern, test stars"
    row.ratios = {
        "injected RMS": rms(injected),
        "remaining over noise RMS, median star": median_rms(left) / median_rms(noise),
        "epochs": len(record["history"][0]),
    }
    exact = xpjax.photometry(XPCoefficients(test.true), SYSTEM, errors=False)
    # Features as observed, but no noise in what is corrected: it would hide a millimagnitude in the blue of red stars.
    clean = dataclasses.replace(test.observed, coefficients=XPCoefficients(test.noiseless))
    before = xpjax.photometry(clean, SYSTEM, errors=False).magnitude - exact.magnitude
    after = corrected_photometry(clean, SYSTEM, model, test.stars, errors=False).magnitude - exact.magnitude
    color, g = (test.stars.value[:, test.stars.names.index(name)] for name in ("BP-RP", "G"))
    rows = [row]
    for k, band in enumerate(exact.system.names):
        one = Row("correction", f"{band}: bias of magnitudes", n, seconds, error=float(np.nanmedian(after[:, k])))
        bins = np.array_split(np.argsort(color), 10)
        size = [float(np.sqrt(np.mean([np.nanmedian(d[b, k]) ** 2 for b in bins]))) for d in (before, after)]
        one.error_of = "median of corrected minus true [mag]"
        one.ratios = {
            "bias before [mmag]": 1e3 * size[0],
            "after [mmag]": 1e3 * size[1],
            "bias before over after": size[0] / size[1],
            "slope with color [mmag/mag]": 1e3 * slope(color, after[:, k]),
            "slope with G [mmag/mag]": 1e3 * slope(g, after[:, k]),
        }
        one.note = "bias: RMS of the medians in ten bins of BP-RP"
        rows.append(one)
    return rows


def random_correction(network: str, stars: Features) -> WiggleCorrection:
    """A correction with random weights, which cost what others do: "small" or "paper"."""
    grid, k = constant_grid(), len(stars.names)
    good = stars.value[np.isfinite(stars.value).all(axis=1)]
    return WiggleCorrection(
        (first_network((k, *WIDTHS[network], len(grid)), (0, 0)),), good.mean(axis=0), good.std(axis=0),
        np.full(k, -np.inf), np.full(k, np.inf), grid, np.asarray(10.0), np.asarray(R_V), np.asarray(AV_PER_SFD), None,
        stars.names,
    )  # fmt: skip


def random_photometer(network: str, stars: Features, plain: Photometer, curves: tuple[Passband, ...]) -> Any:
    """A photometer of these curves with such a correction, for E(B-V) of up to 1."""
    how = NetworkCorrection(random_correction(network, stars), curves, stars, limits=Limits(None, None, None))
    return CorrectedPhotometer.prepare(plain, how, ebv_range=(0.0, 1.0))


def kernel_arguments(photometer: CorrectedPhotometer, table: SourceTable, stars: Features) -> tuple[Any, Observed]:
    """What the kernel of corrected magnitudes takes: constants and sources, without errors."""
    model = photometer.how.model
    apply, _ = applicable(model, stars, limits=photometer.how.limits)
    sources = Observed(photometer.plain.prepared(table)[0], star_inputs(model, stars, apply, False), None)
    return (photometer.plain.bands(sources.coefficients), photometer.folded), sources


def magnitude_flops(photometer: CorrectedPhotometer, table: SourceTable, stars: Features) -> float:
    """Operations in the products of one corrected source."""
    constants, sources = kernel_arguments(photometer, table, stars)
    return product_flops(corrected_kernel(guard=False), constants, jax.tree.map(lambda x: x[0], sources))


def speed(n_small: int, n_paper: int, repeats: int) -> list[Row]:
    """Corrected magnitudes against the network alone, both from and to host memory."""
    rows = []
    for name, n in (("small", n_small), ("paper", n_paper)):
        base = simulate.simulate_sources(n, seed=3, correlations=False)
        stars = make_features(base, "paper", ebv=np.random.default_rng(0).uniform(0, 0.5, n))
        plain = Photometer(xpjax.load_system(SYSTEM), errors=False)
        photometer = random_photometer(name, stars, plain, xpjax.load_passbands(SYSTEM).passbands)
        model = photometer.how.model
        (network,) = model.networks
        x = ((stars.value - model.feature_mean) / model.feature_scale).astype(np.float32)
        alone = measure(
            "correction", f"network alone, {name}, {network.n_weight:,} weights", n,
            lambda network=network, x=x: engine.run(_alone, network, x, work_bytes=4 * sum(network.widths)), repeats,
            bytes_per_source=4 * (network.widths[0] + network.widths[-1]),
        )  # fmt: skip
        whole = measure(
            "correction", f"12 corrected magnitudes, {name}", n,
            lambda photometer=photometer, a=(base, stars): photometer.measure(*a), repeats,
            bytes_per_source=4 * (base.release.n_basis_total + len(stars.names) + 2 * plain.system.n_band + 2),
        )  # fmt: skip
        # Counted after: tracing is part of compiling.
        alone.flops_per_source = product_flops(_alone, network, x[0])
        whole.flops_per_source = magnitude_flops(photometer, base, stars)
        part = np.flatnonzero(np.isfinite(stars.value).all(axis=1))[:500]
        exact = dataclasses.replace(photometer, plain=dataclasses.replace(plain, float64=True))
        off = [p.measure(base[part], stars[part]).magnitude for p in (photometer, exact)]
        whole.error = float(np.nanquantile(np.abs(off[0] - off[1]), 0.999))
        whole.error_of = "99.9 % of magnitudes [mag], against float64"
        whole.note = "passbands read and folded beforehand, features made beforehand"
        whole.ratios["time over network alone"] = whole.seconds / alone.seconds
        rows += [alone, whole]
    return rows


def _training_flops(model: WiggleCorrection, record: dict[str, Any]) -> float:
    """Operations of a training: forward and twice that backward, two a weight, and forward for stars that validate."""
    weights = sum(np.size(w) for w in model.networks[0].weight)
    learned, validated = record["n_split"][:2]
    return float(weights * (6 * learned + 2 * validated) * len(record["history"][0]))


def widths() -> list[Row]:
    """What networks of 1e4 to 5e6 weights leave on stars that they have not seen, after the same training."""
    data, judge = mocks()
    injected = normalized(judge.true, judge.ebv) - normalized(judge.noiseless, judge.ebv)
    sizes = ((24,), (64, 64), (128, 128), (128, 256), (256, 512), (512, 1024, 512), WIDTHS["paper"])
    rows = []
    for size in sizes:
        model, record, seconds = learned(size)
        row = Row("correction", f"width {'-'.join(map(str, size))}", len(data), seconds)
        row.flops_per_source = _training_flops(model, record) / len(data)
        row.error, row.error_of = record["test_loss"][0], "test loss, weighted mean square"
        # The noise of the spectra is in the loss, not in what the network has to learn.
        inside = np.all((judge.stars.value >= model.low) & (judge.stars.value <= model.high), axis=1)
        wrong = predict_residuals(model, judge.stars)[inside] - injected[inside]
        row.ratios = {
            "weights": model.networks[0].n_weight,
            "epochs": len(record["history"][0]),
            "RMS of predicted minus injected [%]": 100 * float(np.sqrt(np.mean(wrong**2))),
        }
        rows.append(row)
    for row in rows:
        row.ratios["test loss over that of the largest"] = row.error / rows[-1].error
    return rows


def epoch(n: int, beside_torch: bool) -> list[Row]:
    """An epoch of the paper's network on some stars, beside the same in PyTorch."""
    batch, sizes = 512, (14, *WIDTHS["paper"], 330)
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(n, 14)).astype(np.float32), rng.normal(size=(n, 330)).astype(np.float32)
    start = first_network(sizes, (0, 0))
    rows = [_epoch_here(x, y, start, batch)]
    if not beside_torch:
        return rows
    try:
        import torch
    except ImportError:
        return [*rows, absent("correction", "PyTorch, epoch of the paper's network", "not installed")]
    layers: list[torch.nn.Module] = []
    for weight, bias in zip(start.weight, start.bias, strict=True):
        layer = torch.nn.Linear(*weight.shape)
        layer.weight.data, layer.bias.data = torch.from_numpy(weight.T.copy()), torch.from_numpy(bias.copy())
        layers += [layer, torch.nn.ReLU()]
    network = torch.nn.Sequential(*layers[:-1])
    optimizer = torch.optim.Adam(network.parameters(), 1e-3)
    xs, ys = torch.from_numpy(x), torch.from_numpy(y)
    torch.manual_seed(0)

    def once() -> None:
        for part in torch.randperm(n)[: n // batch * batch].reshape(-1, batch):
            optimizer.zero_grad()
            torch.nn.functional.mse_loss(network(xs[part]), ys[part]).backward()
            optimizer.step()

    peer = measure("correction", f"PyTorch {torch.__version__}, epoch of the paper's network", n, once, 2)
    peer.flops_per_source = rows[0].flops_per_source
    rows[0].ratios["PyTorch's time over ours"] = peer.seconds / rows[0].seconds
    return [*rows, peer]


def _epoch_here(x: np.ndarray, y: np.ndarray, start: Network, batch: int) -> Row:
    """An epoch without its validation, which PyTorch's has not either."""
    one = np.ones((len(x), 1), np.float32)
    data, judge = (Data(*map(jnp.asarray, arrays)) for arrays in ((x, y, one), (x[:batch], y[:batch], one[:batch])))
    network = jax.tree.map(jnp.asarray, start)
    copy = jax.tree.map(jnp.copy, network)
    state = State(network, optax.scale_by_adam().init(network), copy, jnp.asarray(jnp.inf, jnp.float32))
    compiled = compiled_epoch(TrainingSettings(widths=WIDTHS["paper"], batch=batch, epochs=1), False)

    def once() -> None:
        nonlocal state
        state, *losses = compiled(state, data, judge, jax.random.key(0), jnp.asarray(1e-3, jnp.float32))
        jax.block_until_ready(losses)

    row = measure("correction", "epoch of the paper's network", len(x), once, 1)
    # Forward, and twice that backward, two operations a weight.
    row.flops_per_source = 6.0 * sum(w.size for w in start.weight)
    row.ratios["s an epoch of 157,478 stars"] = 157_478 / row.rate
    return row


def _alone(network: object, x: object) -> object:
    return network(x)  # type: ignore[operator]


def run(quick: bool) -> list[Row]:
    """A quick run: what corrected magnitudes and a short epoch cost, without learning anything and without PyTorch."""
    if quick:
        return [*speed(60_000, 6000, 1), *epoch(1024, False)]
    return [*recovery(), *speed(400_000, 20_000, 5), *epoch(15_872, True), *widths()]
