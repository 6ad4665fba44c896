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
# # Temperature, gravity and metals of a million stars
#
# **How well do XP spectra tell temperature, gravity and metallicity, and what of the error is the grid's?**
#
# A grid of model spectra, a batch of observed ones, and chi2 between them: xpjax fits all stars at once, each from
# several starts, to its own convergence, and says how sure it is. `read_grid("ck04")` is the grid that is shipped, of
# Castelli & Kurucz (2004), and `xpjax labels grid build` makes others. Here a formula stands in for them, so that the
# truth is known: a black body, a break, and bands whose depths depend on all three labels.

# %%
import time

import matplotlib.pyplot as plt
import numpy as np

from xpjax.extinction import extinction_curve, transmission
from xpjax.stellar import (
    FitStatus,
    StellarGrid,
    fit_labels,
    interpolate_grid,
    interpolation_error,
    model_spectra,
    redden,
)
from xpjax.xp import constant_grid

plt.style.use("xpjax.style")

wavelength = constant_grid()


def atmosphere(teff: np.ndarray, logg: np.ndarray, mh: np.ndarray) -> np.ndarray:
    x = wavelength
    teff, logg, mh = (np.asarray(value, float)[..., None] for value in (teff, logg, mh))
    flux = x**-5.0 / np.expm1(1.4388e7 / (x * teff))
    metals = 0.3 * np.exp(0.8 * mh) * (5500 / teff) ** 2
    flux *= np.exp(-metals * np.exp(-(((x - 430) / 30) ** 2)) * (1 + 0.3 * (logg - 4)))
    flux *= np.exp(-0.25 * (5000 / teff) ** 4 * np.exp(-(((x - 517) / 15) ** 2)) * (0.6 + 0.5 * (logg - 4)))
    flux *= 1 + 0.1 * np.exp(0.5 * mh) * np.tanh((x - 400) / 8)
    flux *= 1 - 0.08 * (teff / 6000) ** 3 * np.exp(-(((x - 656) / 9) ** 2)) * (1 - 0.2 * (logg - 4))
    return flux / flux.mean(axis=-1, keepdims=True)


nodes = np.arange(4000.0, 7001, 200), np.arange(3.5, 5.1, 0.5), np.arange(-1.5, 0.1, 0.5)
grid = StellarGrid(nodes, atmosphere(*np.meshgrid(*nodes, indexing="ij")), wavelength, ("teff", "logg", "mh"))
model = interpolate_grid(grid)
print(
    f"{grid.flux[..., 0].size} spectra of {len(wavelength)} samples; {len(model.basis)} components leave out", end=" "
)
print(f"{float(model.compression_rms):.1e} of the flux")

# %% [markdown]
# ## Stars with noise
# Four thousand of them at S/N 100, made by the formula and not by the grid: what the interpolation gets wrong counts.

# %%
rng = np.random.default_rng(4)
n = 4096
truth = rng.uniform([4100, 3.6, -1.4], [6900, 4.9, -0.1], (n, 3))
clean = atmosphere(*truth.T)
error = clean / 100
flux = clean + error * rng.normal(size=clean.shape)

fit_labels(flux, error, model)  # compiles
start = time.perf_counter()
fit = fit_labels(flux, error, model)
print(f"{n / (time.perf_counter() - start):,.0f} spectra a second")
inside = fit.status == FitStatus.OK
pull = (fit.labels - truth)[inside] / fit.error[inside]
print(f"{inside.mean():.1%} inside the grid; chi2/dof {np.median(fit.chi2 / fit.dof):.3f}")
for k, name in enumerate(fit.names):
    scatter = 1.4826 * np.median(np.abs(fit.labels - truth)[:, k])
    formal = np.nanmedian(fit.error[:, k])
    print(f"{name:5} scatter {scatter:7.4f}   formal error {formal:7.4f}   pull {pull[:, k].std():.2f}")

# %% [markdown]
# ## What the grid itself gets wrong
# Formal errors know of the noise only. Nodes left out in turn and fitted with the rest show what the steps of the grid
# cost: a systematic, the same for all stars of a kind, to be quoted beside the formal error.

# %%
left_out = interpolation_error(grid)
for name, own in zip(left_out.names, left_out.own, strict=True):
    print(f"{name:5} expected from the interpolation, at the grid's own spacing: {own:.4f}")

# %% [markdown]
# ## Dust
# Known E(B-V) is taken out first (`ebv=`). Otherwise it becomes a fourth label, with a prior where there is a map.
# Temperature and dust redden alike, and the covariance says so.

# %%
few = 1000
ebv = rng.exponential(0.1, few).clip(0, 0.5)
with_dust = flux[:few] * np.asarray(transmission(extinction_curve(wavelength), ebv))
dusty = interpolate_grid(redden(grid, np.linspace(0, 0.6, 5)))
free = fit_labels(with_dust, 0.01 * with_dust, dusty, priors={"ebv": (ebv, np.inf)})
prior = fit_labels(with_dust, 0.01 * with_dust, dusty, priors={"ebv": (ebv, 0.005)})
for fits, label in ((free, "E(B-V) free"), (prior, "a map of 0.005")):
    off = 1.4826 * np.median(np.abs(fits.labels[:, 0] - truth[:few, 0]))
    print(f"Teff to {off:.0f} K with {label}")
correlation = free.covariance[:, 0, 3] / (free.error[:, 0] * free.error[:, 3])
print(f"correlation of Teff and E(B-V): {np.nanmedian(correlation):.2f}")

# %% [markdown]
# ## Stars that do not belong
# Every star has a status. A hotter star than the grid has is held at its edge and says so; one bad star changes no
# other's answer by a bit.

# %%
odd = flux.copy()
odd[1] = atmosphere(9000.0, 4.0, 0.0)
odd[2, 40] = np.nan
found = fit_labels(odd, error, model)
for k in range(4):
    print(k, found.labels[k].round(2), FitStatus(int(found.status[k])).name)
others = np.delete(np.arange(n), [1, 2])
print("all others as before:", np.array_equal(found.labels[others], fit.labels[others], equal_nan=True))

# %%
figure = plt.figure(figsize=(9, 6))
axes = figure.subplots(2, 2)
best = model_spectra(model, fit.labels[:1])[0]
axes[0, 0].plot(wavelength, flux[0], ".", color="0.6", ms=2, label="star")
axes[0, 0].plot(wavelength, best, color="#D55E00", lw=1, label="{:.0f} K, {:.2f}, {:.2f}".format(*fit.labels[0]))
axes[0, 0].set(xlabel="Wavelength [nm]", ylabel="Flux over its mean")
axes[0, 0].legend()
points = axes[0, 1].scatter(truth[:few, 0], fit.labels[:few, 0] - truth[:few, 0], s=2, c=truth[:few, 2])
figure.colorbar(points, ax=axes[0, 1], label="True [M/H] [dex]")
axes[0, 1].set(xlabel="True Teff [K]", ylabel="Found minus true [K]")
x = np.linspace(-4, 4, 81)
for k, name in enumerate(fit.names):
    axes[1, 0].hist(pull[:, k], x, density=True, histtype="step", label=name)
axes[1, 0].plot(x, np.exp(-(x**2) / 2) / np.sqrt(2 * np.pi), color="black", lw=1, label="normal distribution")
axes[1, 0].set(xlabel="Found minus true, over the error", ylabel="Density")
axes[1, 0].legend()
axes[1, 1].scatter(ebv, free.labels[:, 3] - ebv, s=2, c="0.6", label="E(B-V) free")
axes[1, 1].scatter(ebv, prior.labels[:, 3] - ebv, s=2, c="#0072B2", label="with a map")
axes[1, 1].set(xlabel="True E(B-V) [mag]", ylabel="Found minus true [mag]", ylim=(-0.1, 0.1))
axes[1, 1].legend()
plt.show()
