# ---
# jupyter:
#   jupytext:
#     formats: py:percent
#     text_representation:
#       extension: .py
#       format_name: percent
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # Wiggles, and their correction
#
# Gaia's XP spectra are wrong by some percent, more in the blue, in waves that go with a star's color, magnitude and
# reddening. Ye et al. (2024) let a neural network learn the waves from stars whose true spectra are known. xpjax does
# that, and multiplies the network into the passbands, so that corrected magnitudes need no spectra.
#
# To see whether a correction is right one must know the truth. So we make stars, put wiggles of known shape into their
# coefficients, train on some of them, and look at others. At the end the same is done with real stars, if at hand.

# %%
import dataclasses
import os
import time
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

import xpjax
from xpjax import simulate
from xpjax.constants import FLUX_UNIT
from xpjax.correction.inputs import features
from xpjax.correction.magnitude import corrected_photometry
from xpjax.correction.residuals import make_residuals
from xpjax.correction.training import Settings, predict, train
from xpjax.extinction import AV_PER_SFD, extinction_curve
from xpjax.records import Status
from xpjax.xp.wavelengths import constant_grid

grid = constant_grid()
print(f"{len(grid)} wavelengths, {grid[0]:.0f}..{grid[-1]:.0f} nm, as in the paper")

# %% [markdown]
# ## Stars with wiggles
# The wiggles: 8 % in the blue, 2 to 3 % in the red, shifting with color, growing with magnitude, weaker behind dust.
# They are put into the coefficients, so that spectra, magnitudes and features all see the same ones.


# %%
def wiggles(color: np.ndarray, g: np.ndarray, ebv: np.ndarray, x: np.ndarray) -> np.ndarray:
    """Observed minus true flux over its mean, (n, m)."""
    c, b, e = color[:, None], g[:, None] - 14, ebv[:, None]
    blue = 0.085 * np.exp(-(((x - 395) / 45) ** 2)) * np.sin((x - 360) / 9.0 + 1.2 * c) * np.exp(-0.25 * c)
    red = 0.025 * np.exp(-(((x - 760) / 190) ** 2)) * np.cos((x - 700) / 30.0 - 0.5 * c + 0.1 * b)
    return (blue + red) * (1 + 0.08 * b) * (1 - 0.3 * e)


def sampled(coefficients: np.ndarray, wavelength: np.ndarray) -> np.ndarray:
    """The matrix that makes spectra [1e-18 W m-2 nm-1], applied."""
    design = xpjax.instrument().design(wavelength)
    return coefficients @ (np.asarray(design.value) * (float(design.scale) / FLUX_UNIT))


def made(n: int, seed: int) -> tuple:
    """n mock stars with wiggles; their true coefficients, E(B-V), and the features that a correction goes by."""
    table = simulate.sources(3 * n, seed=seed, correlations=False, dtype=np.float64)
    g, color = (np.asarray(table.columns[name], float) for name in ("phot_g_mean_mag", "bp_rp"))
    table = table[np.flatnonzero((g > 8) & (g < 15) & (color > 0.3) & (color < 2.0))[:n]]
    g, color = (np.asarray(table.columns[name], float) for name in ("phot_g_mean_mag", "bp_rp"))
    ebv = np.random.default_rng(seed).exponential(0.15, len(table)).clip(0, 1)
    true = table.coefficients.value
    fine = np.arange(330.0, 1050.1, 2.0)
    redden = 0.4 * AV_PER_SFD * ebv[:, None]
    mean = (sampled(true, grid) * 10 ** (redden * extinction_curve(grid))).mean(axis=1, keepdims=True)
    change = wiggles(color, g, ebv, fine) * mean * 10 ** (-redden * extinction_curve(fine))
    matrix = sampled(np.eye(true.shape[1]), fine)
    seen = true + change @ np.linalg.pinv(matrix, rcond=1e-4)
    table = dataclasses.replace(table, coefficients=dataclasses.replace(table.coefficients, value=seen))
    stars = features(table, "paper", ebv=ebv)
    good = np.flatnonzero(np.isfinite(stars.value).all(axis=1))
    return table[good], true[good], ebv[good], stars[good]


learn, learn_true, learn_ebv, learn_stars = made(1600, 1)
print("features:", ", ".join(learn_stars.names))

# %% [markdown]
# ## Training
# What is learned are residuals: the true spectrum minus the observed one, both dereddened and over their means. Truth
# comes from best-fit models or from another telescope; here it is known. Stars that cannot be trusted are left out, and
# counted by reason.

# %%
spectra = xpjax.spectra(learn, grid)
true_spectra = sampled(learn_true, grid) * 10 ** (0.4 * AV_PER_SFD * learn_ebv[:, None] * extinction_curve(grid))
residuals, left_out = make_residuals(learn_stars, grid, spectra.flux, true_spectra)
print(f"{len(residuals)} stars to learn from; left out: { {k: v for k, v in left_out.items() if v} }")

start = time.perf_counter()
model = train(residuals, Settings(epochs=40))
print(f"{model.networks[0].n_weight:,} weights trained in {time.perf_counter() - start:.1f} s")

# %% [markdown]
# ## Other stars
# Stars that the network has not seen, without noise, so that only wiggles are between them and the truth. Those outside
# of what it was trained on are left as they are, and flagged.

# %%
test, test_true, test_ebv, test_stars = made(500, 2)
bands = "JPLUS:uJAVA,J0378,gJPLUS,iJPLUS"
exact = xpjax.photometry(test_true, bands, errors=False).magnitude
before = xpjax.photometry(test, bands, errors=False).magnitude - exact
corrected = corrected_photometry(test, bands, model, test_stars)
after = corrected.magnitude - exact
done = (corrected.status & Status.NOT_CORRECTED) == 0
print(f"{done.mean():.0%} of {len(test)} stars corrected")
print("median of |error| [mmag]   before   after   stated systematic")
for k, band in enumerate(corrected.system.names):
    three = before[done, k], after[done, k], corrected.systematic[done, k]
    print(f"  {band:22}" + "".join(f"{1e3 * np.nanmedian(np.abs(x)):9.2f}" for x in three))

# %%
predicted = predict(model, test_stars)
color, g = (test_stars.value[:, test_stars.names.index(name)] for name in ("BP-RP", "G"))
injected = -wiggles(color, g, test_ebv, grid)

figure = Figure(figsize=(9, 6.5), layout="constrained")
axes = figure.subplots(2, 2)
chosen = np.flatnonzero(done)[np.argsort(color[done])]
for star, hue in zip(chosen[[40, len(chosen) // 2, -40]], ("#0072B2", "#009E73", "#D55E00"), strict=True):
    axes[0, 0].plot(grid, 100 * injected[star], color=hue, lw=2.5, alpha=0.35)
    axes[0, 0].plot(grid, 100 * predicted[star], color=hue, lw=1, label=f"BP-RP = {color[star]:.1f}")
axes[0, 0].set(xlabel="wavelength [nm]", ylabel="true minus observed [%]", title="put in (wide) and found (thin)")
axes[0, 0].legend(frameon=False)
for panel, values, title, most in (
    (axes[0, 1], injected, "put in", 5),
    (axes[1, 1], injected - predicted, "left, ten times enlarged", 0.5),
):
    image = panel.imshow(
        100 * values[chosen], aspect="auto", cmap="RdBu_r", vmin=-most, vmax=most, origin="lower",
        extent=(0, len(grid), 0, 1),
    )  # fmt: skip
    ticks = np.searchsorted(grid, [400, 500, 600, 700, 800, 900])
    panel.set_xticks(ticks, ["400", "500", "600", "700", "800", "900"])
    panel.set_yticks([0.02, 0.5, 0.98], ["bluest", "stars by color", "reddest"], rotation=90, va="center")
    panel.set(xlabel="wavelength [nm]", title=title)
    figure.colorbar(image, ax=panel, label="%")
k = corrected.system.names.index("J0378")
axes[1, 0].plot(color[done], 1e3 * before[done, k], ".", ms=3, color="0.6", label="as they come")
axes[1, 0].plot(color[done], 1e3 * after[done, k], ".", ms=3, color="#0072B2", label="corrected")
axes[1, 0].set(xlabel="BP-RP [mag]", ylabel="J0378 minus truth [mmag]")
axes[1, 0].legend(frameon=False)
figure

# %% [markdown]
# What is left goes with the magnitudes as an error of its own, learned from held-out stars by color, magnitude and
# E(B-V), and kept apart from the statistical error, because it does not average out. It knows of the wavelengths that
# the network has, 360 to 990 nm. Half of the u band lies to the blue of them: there wiggles stay, and are not in
# the stated error.

# %% [markdown]
# ## Real stars: CALSPEC
# The same with real spectra: stars that Hubble has measured, as a Parquet file with `wavelength`, `gaia_spectrum` and
# `calspec_spectrum` (lists). Name it in the environment, `XPJAX_CALSPEC=pairs.parquet`. Tens of stars are few: judge by
# stars left out, as `python -m benchmarks calspec` does star by star; here half of them teach and half are judged.

# %%
pairs = os.environ.get("XPJAX_CALSPEC", "")
if not pairs or not Path(pairs).exists():
    print("no CALSPEC pairs at hand (XPJAX_CALSPEC is not set to a file): this part is left out")
else:
    import pandas as pd

    table = pd.read_parquet(pairs)
    x = np.arange(336.0, 1021.0, 2.0)
    seen, true = (
        np.stack([np.interp(x, w, f) for w, f in zip(table["wavelength"], table[name], strict=True)])
        for name in ("gaia_spectrum", "calspec_spectrum")
    )
    inside = (x >= 400) & (x <= 990)
    kernel = np.exp(-0.5 * ((x[:, None] - x) / (x[:, None] / 70 / 2.3548)) ** 2)
    true = true @ (kernel / kernel.sum(axis=1, keepdims=True)).T  # XP sees with a resolving power of about 70
    seen, true = (flux / flux[:, inside].mean(axis=1, keepdims=True) for flux in (seen, true))
    curves = xpjax.passbands("SkyMapper:u,v,g,i")
    given = {"source_id": np.arange(1, len(seen) + 1)}
    for band in curves:
        weight = np.interp(x, band.wavelength, band.transmission, left=0, right=0) * x
        given[band.name] = -2.5 * np.log10((seen * weight).sum(axis=1) / (weight / x**2).sum())
    stars = features(given, ("g-i", "v-g-0.9(g-i)", "u-v-0.9(g-i)"))
    half = np.arange(len(seen)) % 2 == 0
    data, _ = make_residuals(stars[half], x, seen[half], true[half], kind="multiplicative", space="observed")
    how = Settings(widths=(256,), epochs=400, learning_rate=3e-3, decay=1e-2, split=(0.8, 0.15, 0.05), batch=64)
    network = train(data, how, kind="multiplicative", space="observed")
    mended = seen * (1 + predict(network, stars))
    for name, flux in (("as they come", seen), ("corrected", mended)):
        rms = np.sqrt(np.mean((flux / flux[:, inside].mean(axis=1, keepdims=True) - true)[:, inside] ** 2, axis=1))
        print(f"{name:14} median rms against CALSPEC, 400..990 nm: {100 * np.median(rms[~half]):.2f} %")
