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
# # What filter do I really have?
#
# **What is the transmission curve of a filter that nobody has measured again, and how sure is it?**
#
# Filters age, and nobody measures them again. Stars do: their XP spectra say what each of them should look like through
# any curve, and the observed magnitudes say which curve it was. xpjax differentiates synthetic magnitudes with respect
# to the curve, so a fit takes a second.

# %%
import matplotlib.pyplot as plt
import numpy as np

import xpjax
from xpjax.synthetic import Passband, warp_passband
from xpjax.xp import simulate_sources

plt.style.use("xpjax.style")

stars = simulate_sources(2000, seed=3, correlations=False)
nominal = xpjax.load_passbands("JPLUS")["gJPLUS"]

# %% [markdown]
# ## Make observations
# The true filter lies 2 nm to the red of its data sheet, is 3 % wider and tilted by 5 %. We observe 2000 stars at
# 10 mmag, with a zero-point of our own.

# %%
true = warp_passband(nominal, shift=2.0, width=0.03, tilt=0.05)
rng = np.random.default_rng(6)
exact = xpjax.photometry(stars, true, errors=False, float64=True).magnitude[:, 0]
observed = exact + 0.05 + rng.normal(0, 0.01, len(stars))

# %% [markdown]
# ## The shift alone

# %%
shift = xpjax.fit_passband(stars, observed, 0.01, nominal, ("zero_point", "shift"))
print(shift)
print(f"true effective wavelength {true.mean_wavelength:.3f} nm, nominal {nominal.mean_wavelength:.3f} nm")

# %% [markdown]
# The effective wavelength is wrong by many of its errors, and chi2 does not tell: width and tilt are missing.
#
# ## All of it

# %%
fit = xpjax.fit_passband(stars, observed, 0.01, nominal, ("zero_point", "shift", "width", "tilt"))
print(fit)

# %%
fit.plot()

# %% [markdown]
# The effective wavelength comes to 0.1 nm. How much of that is shift and how much tilt stars can hardly tell: the
# covariance says so (correlation near -0.97), and a prior on either, from a laboratory say, settles both.

# %%
held = xpjax.fit_passband(
    stars, observed, 0.01, nominal, ("zero_point", "shift", "width", "tilt"), priors={"tilt": 0.02}
)
for name in ("shift", "width", "tilt"):
    (value, error), (value_held, error_held) = fit[name], held[name]
    print(f"{name:6} {value:+.4f} +- {error:.4f}   with a prior on the tilt {value_held:+.4f} +- {error_held:.4f}")

# %% [markdown]
# ## Free form
# Where no parameter describes the change, the curve may bend freely between nodes 15 nm apart, as smoothly as it can.

# %%
free = xpjax.fit_passband(stars, observed, 0.01, nominal, ("zero_point", "shift"), free=15.0)
print(f"effective wavelength {free.effective_wavelength:.3f} +- {free.effective_wavelength_error:.3f} nm")

figure = plt.figure(figsize=(7, 6))
top, bottom = figure.subplots(2, sharex=True, height_ratios=(2, 1))
x = np.arange(380.0, 575.0, 0.5)


def on_grid(band: Passband) -> np.ndarray:
    values = np.interp(x, band.wavelength, band.transmission, left=0, right=0)
    return values / np.trapezoid(values, x)


for band, label, style in (
    (nominal, "nominal", {"color": "0.6", "lw": 3}),
    (true, "true", {"color": "black"}),
    (fit.passband, "shift, width and tilt", {"color": "#0072B2", "ls": "--"}),
    (free.passband, "free form", {"color": "#D55E00", "ls": ":"}),
):
    top.plot(x, on_grid(band), label=label, **style)
    bottom.plot(x, on_grid(band) - on_grid(true), **style)
top.set(ylabel="Transmission over its integral [nm$^{-1}$]")
bottom.set(xlabel="Wavelength [nm]", ylabel="Minus the true one [nm$^{-1}$]")
top.legend()
plt.show()

# %% [markdown]
# ## A whole telescope
# The parameters may be those of a transmission chain: here the airmass of the night and the filter's shift
# (`filters/minisitian/system.toml`).

# %%
from xpjax.synthetic import read_chain

chain = read_chain("minisitian")
night = chain.with_parameters(airmass=1.7, filter_shift=1.5)
observed = xpjax.photometry(stars, night.passbands()["g"], errors=False).magnitude[:, 0]
observed = observed + rng.normal(0, 0.005, len(stars))
print(
    xpjax.fit_passband(
        stars,
        observed,
        0.005,
        chain,
        ("zero_point", "airmass", "filter_shift"),
        band="g",
        priors={"airmass": 0.5, "filter_shift": 3.0},
    )
)
