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
# # One solution for a survey: air, filters, zero-points and stars
#
# **What can one solution say of the air, the filters, the zero-points and the stars of a survey?**
#
# The same stars, night after night. The air changes, with more or less water and ozone in it, and the filters are not
# quite where their data sheets put them. A star's magnitude in the passband of the night is not its magnitude in the
# passband of the survey, and by how much depends on its spectrum, which Gaia has measured. So one solution may find all
# of it: a zero-point for each exposure, the water and ozone of each night, the shift of the filters, the stars'
# magnitudes, and one covariance.

# %%
import dataclasses

import matplotlib.pyplot as plt
import numpy as np

import xpjax
from xpjax.survey import make_observations
from xpjax.survey.joint import Color, Constraint, JointModel, Parameter, Transmission, ZeroPoint, solve_joint, xp_prior
from xpjax.synthetic import Atmosphere, Curve, TransmissionChain
from xpjax.xp import simulate_sources

plt.style.use("xpjax.style")

# %% [markdown]
# ## Ten nights
# A telescope in three bands, 500 stars, an exposure a night in each band. Water and ozone drift, and all filters lie
# 1.5 nm to the red. The chain as it is, with 3 mm of water, 300 DU of ozone and no shift, is the passband that we want
# magnitudes in.

# %%
bands = ("rp", "ip", "zp")
filters = xpjax.load_passbands("PanSTARRS1")[list(bands)]
chain = TransmissionChain(
    "telescope",
    bands,
    tuple(Curve(b.wavelength, b.transmission) for b in filters),
    np.arange(500.0, 1000.0),
    Atmosphere(airmass=1.2, water=3.0, ozone=300.0, aerosol=0.03),
)
rng = np.random.default_rng(9)
table = simulate_sources(5000, seed=9)
bright = np.flatnonzero((table.columns["phot_g_mean_mag"] < 16) & (table.columns["bp_rp"] < 3))[:500]
stars = table[bright]

nights = np.arange(10)
water = 3 + 1.5 * np.sin(nights / 2) + rng.normal(0, 0.3, 10)
ozone = 300 + 40 * np.cos(nights / 3)
shift = 1.5

columns = []
for night in nights:
    airmass = rng.uniform(1.0, 1.6)
    air = chain.with_parameters(airmass=airmass, water=water[night], ozone=ozone[night], filter_shift=shift)
    seen = xpjax.photometry(stars, air.passbands(), errors=False, float64=True).magnitude
    for k, band in enumerate(bands):
        columns.append((seen[:, k] - 25.0 - rng.normal(0, 0.1), f"e{night}", band, f"night {night}", airmass))
n = len(stars)
magnitude = np.concatenate([c[0] for c in columns]) + rng.normal(0, 0.004, n * len(columns))
exposure, band, night, airmass = (np.repeat([c[k] for c in columns], n) for k in (1, 2, 3, 4))
observations = make_observations(
    np.tile(stars.source_id, len(columns)),
    np.zeros(len(magnitude)),
    np.zeros(len(magnitude)),
    magnitude,
    np.full(len(magnitude), 0.004),
    None,
    color=np.tile(stars.columns["bp_rp"], len(columns)),
    exposure=exposure,
    band=band,
    night=night,
    airmass=airmass,
)
print(f"{len(observations):,} measurements on {len(observations.frames)} exposures")

# %% [markdown]
# Here the spectra are those that the stars were made from. Real ones have errors, which `star_prior` (on by default)
# puts into the solution: every spectrum is a parameter too. As these have none, chi2 will come out a little small.
#
# ## What data cannot say
# Stars' magnitudes are unknown, and so are zero-points: all stars brighter and all zero-points smaller fits as well.
# Without spectra that say how bright stars are, the fit is refused, and says why.

# %%
try:
    solve_joint(observations, JointModel((ZeroPoint(), Color())))
except ValueError as error:
    print(error)

# %% [markdown]
# Six combinations, two in each band. Constraints would settle them by convention. Spectra settle them by measurement.
#
# ## Zero-points and the transmission

# %%
term = Transmission(
    chain,
    stars,
    {
        "water": Parameter("night", prior=3.0),
        "ozone": Parameter("night", prior=60.0),
        "filter_shift": Parameter("all", prior=5.0),
    },
)
solution = solve_joint(observations, JointModel((ZeroPoint(), term), error_floor=0.0))
value, error = solution.term("transmission filter_shift")
print(f"filter shift {value[0]:.2f} +- {error[0]:.2f} nm, true {shift}")
print(f"chi2 {solution.chi2:.0f} for {solution.degrees_of_freedom} degrees of freedom")

figure = plt.figure(figsize=(7, 5))
panels = figure.subplots(2, sharex=True)
for panel, name, true, nominal, unit in (
    (panels[0], "water", water, 3.0, "mm"),
    (panels[1], "ozone", ozone, 300.0, "DU"),
):
    value, error = solution.term(f"transmission {name}")
    panel.errorbar(nights, nominal + value, error, fmt="o", color="#0072B2", label="solution")
    panel.plot(nights, true, color="black", label="truth")
    panel.set(ylabel=f"{name.capitalize()} [{unit}]")
    print(f"{name}: rms of (solution - truth) / error {np.sqrt(np.mean(((nominal + value - true) / error) ** 2)):.2f}")
panels[0].legend()
panels[1].set(xlabel="Night")
plt.show()

# %% [markdown]
# ## Color terms instead
# The usual way is a polynomial in color for each exposure. It knows nothing of spectra, and M dwarfs pay for that. Both
# are asked for the magnitudes of red stars that took no part.

# %%
plain = solve_joint(
    observations,
    JointModel((ZeroPoint(), Color(order=2)), error_floor=0.0, color_zero=1.0),
    prior=xp_prior(stars, chain.passbands()),
)
red = np.flatnonzero((table.columns["bp_rp"] > 2.2) & (table.columns["bp_rp"] < 3))
red = table[red[~np.isin(red, bright)][:60]]
truth = xpjax.photometry(red, chain.passbands(), errors=False, float64=True).magnitude
k = 2  # zp on the first night
frame = observations.frames[[k]]
air = chain.with_parameters(airmass=frame.airmass[0], water=water[0], ozone=ozone[0], filter_shift=shift)
seen = xpjax.photometry(red, air.passbands(), errors=False, float64=True).magnitude[:, k]
rows = make_observations(
    red.source_id,
    np.zeros(len(red)),
    np.zeros(len(red)),
    seen,
    np.full(len(red), 0.004),
    None,
    color=red.columns["bp_rp"],
    exposure=frame.exposure[0],
    band=frame.band[0],
    night=frame.night[0],
    airmass=frame.airmass[0],
)
with_red = solution.with_terms(ZeroPoint(), dataclasses.replace(term, sources=red))
for name, found in (("transmission", with_red), ("color terms", plain)):
    added, _ = found.correction(rows, errors=False)
    off = rows.magnitude + added - truth[:, k]
    off -= np.median(off)
    print(f"{name:13} scatter of {len(red)} M dwarfs, measured without noise: {1e3 * off.std():.2f} mmag")

# %% [markdown]
# ## Anything has an error
# The difference of two nights' zero-points, and a star's magnitude, with their covariance.

# %%
combination = np.zeros((1, len(solution.value)))
combination[0, solution.places("zero_point")[[0, 3]]] = 1, -1
both = solution.covariance(combination, stars=[(solution.star[0], "rp")])
print(f"difference of two zero-points +- {1e3 * np.sqrt(both[0, 0]):.2f} mmag")
print(f"magnitude of a star +- {1e3 * np.sqrt(both[1, 1]):.2f} mmag")

# %% [markdown]
# With constraints, where there are no spectra: in each band the mean of the zero-points, and of the color terms, is
# what you say it is, here zero.

# %%
relative = solve_joint(
    observations, JointModel((ZeroPoint(), Color()), (Constraint("zero_point"), Constraint("color")))
)
print("fixed by constraints:", *relative.gauge, sep="\n  ")
