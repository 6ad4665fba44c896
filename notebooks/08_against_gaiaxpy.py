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
# # Against GaiaXPy
#
# **Are the numbers those of GaiaXPy, and how much sooner are they there?**
#
# GaiaXPy is the reference: the Gaia consortium's own package. xpjax must give the same numbers, and should give them
# sooner. Both run here on the same simulated sources, in the same process. `python -m benchmarks` does it with more
# sources and repeats; its results are in the README.

# %%
import contextlib
import importlib.util
import io
import time
import warnings
from collections.abc import Callable, Iterator

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd

import xpjax
from xpjax.compat import gaiaxpy as ours
from xpjax.xp import simulate_sources

N = 300


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Neither notes nor progress bars nor warnings."""
    with contextlib.ExitStack() as stack:
        for context in (contextlib.redirect_stdout, contextlib.redirect_stderr):
            stack.enter_context(context(io.StringIO()))
        stack.enter_context(warnings.catch_warnings())
        warnings.simplefilter("ignore")
        yield


there = importlib.util.find_spec("gaiaxpy") is not None
if not there:
    print("GaiaXPy is not installed (pip install gaiaxpy): xpjax runs alone, and nothing is compared")
else:
    with quiet():
        import gaiaxpy as theirs
plt.style.use("xpjax.style")  # after GaiaXPy, which asks all figures for LaTeX

# %% [markdown]
# ## The same input
# GaiaXPy takes data frames of the archive's columns. So does `xpjax.compat.gaiaxpy`, which has GaiaXPy's functions; the
# functions of xpjax itself take coefficients.

# %%
sources = simulate_sources(N, seed=11, dtype=np.float64)
columns = sources.catalogue().columns
frame = pd.DataFrame({name: list(c) if np.ndim(c) > 1 else c for name, c in columns.items()})
for xp in ("bp", "rp"):
    for name, value in (("n_parameters", sources.release.n_basis[0]), ("standard_deviation", 1.0)):
        frame[f"{xp}_{name}"] = frame.get(f"{xp}_{name}", value)
print(frame.shape, *list(frame.columns)[:6], "...")


def timed(call: Callable[[], object], repeats: int) -> tuple[object, float, float]:
    """What a call gives, seconds of the first one, and the least of later ones."""
    seconds = []
    with quiet():
        for _ in range(repeats + 1):
            start = time.perf_counter()
            result = call()
            seconds.append(time.perf_counter() - start)
    return result, seconds[0], min(seconds[1:])


# %% [markdown]
# ## The same calls
# Change one import line: `from xpjax.compat import gaiaxpy`.


# %%
def calls(module: object) -> dict[str, Callable[[], object]]:
    system = module.PhotometricSystem.JPLUS
    return {
        "generate": lambda: module.generate(frame, photometric_system=system, save_file=False),
        "calibrate": lambda: module.calibrate(frame, save_file=False)[0],
    }


mine = {name: timed(call, 3) for name, call in calls(ours).items()}
others = {name: timed(call, 1) for name, call in calls(theirs).items()} if there else {}
for name, (_, first, later) in mine.items():
    print(f"{name:10} xpjax.compat.gaiaxpy {1e3 * later:5.0f} ms (first call, which compiles: {1e3 * first:.0f} ms)")
    if there:
        print(f"{'':10} GaiaXPy       {1e3 * others[name][2]:5.0f} ms, {others[name][2] / later:.0f} times as long")

# %% [markdown]
# ## The same numbers
# Every column, the largest difference relative to the largest value.

# %%
for name, (result, _, _) in others.items():
    found = mine[name][0]
    assert list(found.columns) == list(result.columns)
    worst = 0.0
    for column in result.columns.drop("source_id"):
        a, b = (np.stack(list(table[column])).astype(float) for table in (found, result))
        worst = max(worst, float(np.nanmax(np.abs(a - b)) / np.nanmax(np.abs(b))))
    print(f"{name}: {len(result.columns)} columns of the same names; they differ by {worst:.0e} at most")

# %% [markdown]
# ## Without the frame
# Most of the time goes into frames of Python lists. Arrays in, arrays out, in single precision, is what xpjax is made
# for. What single precision costs, J-PLUS magnitudes show.

# %%
single = xpjax.photometry(sources, "JPLUS")
_, _, seconds = timed(lambda: xpjax.photometry(sources, "JPLUS"), 5)
print(f"xpjax.photometry: {1e3 * seconds:.1f} ms for {N} sources with errors", end="")
if there:
    print(f"; GaiaXPy's generate takes {others['generate'][2] / seconds:.0f} times as long", end="")
print()
reference = others["generate"][0] if there else mine["generate"][0]
exact = np.stack([reference[c] for c in reference.columns if "_mag_" in c], axis=1).astype(float)
difference = 1e3 * np.abs(single.magnitude - exact)
print(
    f"magnitudes in float32 differ by {np.nanmedian(difference):.4f} mmag (median), {np.nanmax(difference):.3f} at most"
)

figure = plt.figure(figsize=(9, 3.8))
left, right = figure.subplots(1, 2)
rates = []
for name in ("generate", "calibrate"):
    if there:
        rates.append((f"GaiaXPy\n{name}", N / others[name][2], "0.6"))
    rates.append((f"xpjax.compat.gaiaxpy\n{name}", N / mine[name][2], "#56B4E9"))
rates.append(("xpjax\nphotometry", N / seconds, "#0072B2"))
left.barh([r[0] for r in rates], [r[1] for r in rates], color=[r[2] for r in rates], log=True)
left.invert_yaxis()
left.set(xlabel=f"Sources a second ({N} sources, this machine)")
error = single.magnitude_error * 1e3
right.loglog(error.ravel(), np.maximum(difference.ravel(), 1e-6), ".", ms=2, color="#0072B2")
line = np.array([np.nanmin(error), np.nanmax(error)])
right.loglog(line, line / 1000, color="0.6", lw=1, label="a thousandth of the error")
right.set(
    xlabel="Error of the magnitude [mmag]",
    ylabel="Float32 minus GaiaXPy [mmag]" if there else "Float32 minus float64 [mmag]",
)
right.legend()
plt.show()

# %% [markdown]
# The few places where xpjax differs on purpose (correlations of absolute spectra are symmetric; bands wholly in one
# photometer survive the loss of the other) are in `docs/moving-from-gaiaxpy.md`; `with gaiaxpy.strict():` gives
# GaiaXPy's numbers there too.

# %%
one_missing = sources.coefficients.value[:2].copy()
one_missing[0, sources.release.slices[0]] = np.nan
bands = xpjax.photometry(one_missing, "JPLUS", errors=False)
print("a source without BP keeps", *np.asarray(bands.system.names)[np.isfinite(bands.magnitude[0])])
