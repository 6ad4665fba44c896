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
# # A catalogue of the whole sky
#
# **What does a catalogue of the whole sky take, and what happens when a disk fails half way?**
#
# 220 million sources in 3386 files do not fit in memory, and a run of hours will be interrupted. xpjax keeps the
# coefficients in a store and works through it file by file: every part of the catalogue is whole or not there, and a
# run that was stopped goes on where it was. Here is the same on a small simulated sky, and a count of what the large
# one costs.

# %%
import json
import tempfile
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np

import xpjax
from xpjax.catalogue import read_status
from xpjax.plot import plot_photometry
from xpjax.xp import simulate_sources, write_store_file

plt.style.use("xpjax.style")

folder = Path(tempfile.mkdtemp())

# %% [markdown]
# ## A store
# With Gaia's own files this is `xpjax store ingest XpContinuousMeanSpectrum_*.csv.gz --store store`. Each becomes one
# HDF5 file with checksums. Ours are simulated, eight files of 5,000 sources, without correlations to keep them small.

# %%
(folder / "store").mkdir()
for k in range(8):
    stars = simulate_sources(5000, seed=k, correlations=False)
    write_store_file(folder / "store" / f"XP_{k}.h5", stars, correlations="none")
store = xpjax.open_store(folder / "store")
size = sum(file.path.stat().st_size for file in store.files)
print(f"{len(store):,} sources in {len(store.files)} files, {size / len(store):.0f} bytes a source")
print("columns beside the coefficients:", *store.columns)

# %% [markdown]
# Half the catalogue, to begin with: shard 1 of 2. On a cluster each job of an array takes one
# (`--shard $SLURM_ARRAY_TASK_ID/40`).

# %%
options = {"errors": False, "keep": ["phot_g_mean_mag", "bp_rp", "ra", "dec"]}
first = xpjax.run_catalogue(store, folder / "jplus", "JPLUS", shard=(1, 2), **options)
state = read_status(folder / "jplus")
print(f"{first.rows:,} rows in {first.seconds:.1f} s; finished {len(state.finished)} parts, left {len(state.left)}")

# %% [markdown]
# ## A damaged file
# Disks err. A byte of one file is flipped; the others are done, and this one is named with what is wrong.

# %%
victim = store.files[1].path
good = victim.read_bytes()
spoilt = bytearray(good)
spoilt[len(spoilt) // 2] ^= 1
victim.write_bytes(spoilt)
second = xpjax.run_catalogue(xpjax.open_store(folder / "store"), folder / "jplus", "JPLUS", resume=True, **options)
for name, why in second.failed.items():
    print(f"{name}: {why.replace(str(folder) + '/', '')}")
print(f"finished now: {', '.join(second.finished)}; complete: {second.complete}")

# %% [markdown]
# The file is restored, and the run resumed: what is done is not done again.

# %%
victim.write_bytes(good)
third = xpjax.run_catalogue(xpjax.open_store(folder / "store"), folder / "jplus", "JPLUS", resume=True, **options)
print(f"{len(third.skipped)} parts were there, {len(third.finished)} done now; complete: {third.complete}")

# %% [markdown]
# Other questions on the same output are refused: a catalogue is one thing.

# %%
try:
    xpjax.run_catalogue(store, folder / "jplus", "SDSS", resume=True, **options)
except ValueError as error:
    print(str(error).replace(str(folder) + "/", ""))

# %% [markdown]
# ## Reading it back
# Parts are Parquet files; any reader of a folder of them will do. `format="hats"` writes what LSDB reads.

# %%
import pyarrow.parquet as pq

table = pq.read_table(folder / "jplus")
print(f"{table.num_rows:,} rows, {table.num_columns} columns:", ", ".join(table.column_names[1:5]), "...")
part = xpjax.read_table(folder / "jplus" / f"{store.files[0].name}.parquet")
direct = xpjax.photometry(store.files[0].read(), "JPLUS", errors=False)
same = np.array_equal(part.columns["Jplus_mag_gJPLUS"], direct["gJPLUS"], equal_nan=True)
print("the same numbers as xpjax.photometry gives:", same)
plot_photometry(part)

# %% [markdown]
# A cone, a pixel of the sky or a list of ids comes from the store without reading the rest.

# %%
ra, dec = table["ra"][0].as_py(), table["dec"][0].as_py()
near = store.select(cone=(ra, dec, 5.0))
print(f"{len(near)} sources within 5 degrees of ({ra:.2f}, {dec:.2f})")

# %% [markdown]
# ## What it costs
# Nothing but bytes and products. For each source, 12 bands, float32:

# %%
n_basis, n_band = store.release.n_basis_total, 12
n_pair = store.release.n_pair_total
cases = {
    "magnitudes": (4 * n_basis, 2 * n_basis * n_band),
    "with errors": (4 * (2 * n_basis + n_pair), 2 * n_basis * n_band + n_band * 3 * n_pair),
}
for name, (in_bytes, flops) in cases.items():
    print(
        f"{name:12} reads {in_bytes:6,} bytes, {flops:7,} operations ({flops / in_bytes:.0f} a byte); "
        f"220 million: {220e6 * in_bytes / 1e12:.2f} TB, {220e6 * flops / 1e12:.0f} Tflop"
    )

# %% [markdown]
# A disk of 1 GB/s gives the bytes of the first in two minutes, those of the second in three quarters of an hour
# (`correlations="int16"` halves that). Two idle cores compute 15.9 and 0.425 million sources a second from memory
# (README): a quarter of a minute, and nine minutes. So an all-sky catalogue waits for its disk.
#
# Time against number: a part is a part, memory does not grow, and time is proportional. Small runs are all overhead
# (compiling, opening, syncing). `python -m benchmarks catalogue` does this with up to twenty million sources.

# %%
small = folder / "scaling"
small.mkdir()
numbers, seconds = [], []
for n_file in (1, 2, 4, 8):
    place = small / f"store{n_file}"
    place.mkdir()
    for file in store.files[:n_file]:
        (place / file.path.name).hardlink_to(file.path)
    report = xpjax.run_catalogue(place, small / f"out{n_file}", "JPLUS", errors=False)
    numbers.append(report.rows)
    seconds.append(report.seconds)
print(f"here {numbers[-1]:,} sources took {seconds[-1]:.2f} s with opening, checking, writing and syncing")

figure = plt.figure(figsize=(7, 4.5))
axes = figure.subplots()
axes.loglog(numbers, seconds, "o", color="#0072B2", label="this notebook, on what the machine had left")
every = np.geomspace(1e4, 2.2e8, 50)
for name, (in_bytes, _) in cases.items():
    axes.loglog(every, every * in_bytes / 1e9, ls="--", lw=1, color="0.6")
    axes.annotate(f"{name}: bytes at 1 GB/s", (3e5, 3e5 * in_bytes / 0.7e9), color="0.4", rotation=27, fontsize=8)
results = [folder / "results" / "cpu_catalogue.json" for folder in (Path("benchmarks"), Path("../benchmarks"))]
for path in [path for path in results if path.exists()][:1]:
    benchmark = [row for row in json.loads(path.read_text())["rows"] if row["stage"] == "catalogue"]
    for text, marker, color in (("12 magnitudes", "s", "black"), ("from the disk", "^", "#D55E00")):
        rows = [row for row in benchmark if text in row["case"]]
        label = "no errors" if marker == "s" else "errors; correlations float32, int16, from the disk"
        axes.loglog(
            [r["n"] for r in rows], [r["seconds"] for r in rows], marker, color=color, label=f"benchmarks: {label}"
        )
        last = max(rows, key=lambda row: row["n"])
        sky = 2.2e8 * last["seconds"] / last["n"]
        axes.loglog([last["n"], 2.2e8], [last["seconds"], sky], color=color, lw=1)
axes.axvline(2.2e8, color="0.7", lw=1)
axes.annotate("the sky", (2.1e8, 0.02), ha="right", color="0.4", fontsize=8)
axes.set(xlabel="Sources", ylabel="Time [s]")
axes.legend(fontsize=8)
plt.show()
