"""Build xpjax/data/grid_ck04.h5, the grid of models that comes with xpjax, from Castelli & Kurucz (2004).

    python tools/build_grid.py DATA

DATA holds grids/ck04, the folder with ckm25 .. ckp05 as STScI distributes it. All models are taken, seen at XP's
resolution on 330 samples, and compressed to principal components. Models are then left out, 10 % at random and every
fifth value of each label, and what comes back of them is printed and drawn (docs/grid-left-out.png): by kriging of
scattered models, which fills holes, and by cubics between nodes, which fits use. What models and corrected XP spectra
are wrong by comes from build_label_errors.py. It takes three minutes.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
from build_label_errors import with_errors

import xpjax
from xpjax.stellar import StellarGrid, build_grid, describe_grid, interpolate_grid, model_spectra, read_grid, write_grid
from xpjax.stellar.description import errors_by_label
from xpjax.stellar.validation import every_fifth, left_out_models

OUTPUT = Path(xpjax.__file__).parent / "data" / "grid_ck04.h5"
FIGURE = Path(__file__).parents[1] / "docs" / "grid-left-out.png"
COMPACT = 5e-5
SHARE, SEED = 0.1, 0
ABOUT = {
    "citation": "Castelli & Kurucz 2004, in IAU Symp. 210, Modelling of Stellar Atmospheres, poster A20, "
    "arXiv:astro-ph/0405087",
    "licence": "models published by F. Castelli and R. L. Kurucz, distributed by STScI as a reference atlas, without a "
    "stated licence; cite them. Smoothed to XP's resolution and compressed by xpjax",
    "systematic": "second moments of residuals of CALSPEC stars against labels of literature (Bohlin et al. 2017, AJ "
    "153, 234, and others in benchmarks/literature_labels.ecsv) and of random Gaia DR3 stars brighter than G = 17 "
    "against labels of a population, by tools/build_label_errors.py; no spectrum of any star is in this file",
}


SHOWN = {
    "every fifth teff": "every fifth Teff",
    "every fifth logg": "every fifth log g",
    "every fifth mh": "every fifth [M/H]",
}
"""How the figure calls what is left out."""


def by_cubics(grid: StellarGrid, label: int, where: np.ndarray) -> np.ndarray:
    """Errors (n,) of spectra at left-out values of a label, by cubics between the nodes that are left; NaN at holes."""
    keep = ~where.any(axis=tuple(k for k in range(where.ndim) if k != label))
    rest = dataclasses.replace(
        grid,
        nodes=tuple(x[keep] if k == label else x for k, x in enumerate(grid.nodes)),
        flux=np.compress(keep, grid.flux, axis=label),
        filled=None,
        error=None,
        doubt=None,
    )
    out = where & ~grid.holes & (True if grid.filled is None else ~np.asarray(grid.filled))
    off = model_spectra(interpolate_grid(rest, components=None), grid.labels_of(out), float64=True) - grid.flux[out]
    return np.asarray(np.sqrt(np.mean(off**2, axis=1) / np.mean(grid.flux[~grid.holes] ** 2)))


def judged(grid: StellarGrid) -> tuple[list[str], dict[str, Any]]:
    """Tables of what left-out models are wrong by, and for the figure labels and errors of each kind of leaving out."""
    random = np.random.default_rng(SEED).random(grid.shape) < SHARE
    labels, error, _ = left_out_models(grid, random)
    text = [f"{SHARE:.0%} at random", *errors_by_label(grid.names, labels, {"kriging": error})]
    drawn = {f"{SHARE:.0%} at random": (labels, error)}
    for k, name in enumerate(grid.names):
        where = every_fifth(grid, k)
        labels, error, _ = left_out_models(grid, where)
        cubics = by_cubics(grid, k, where)
        there = np.isfinite(cubics)
        both = {"kriging": error[there], "cubics": cubics[there]}
        text += ["", f"every fifth {name}", *errors_by_label(grid.names, labels[there], both)]
        drawn[f"every fifth {name}"] = (labels[there], cubics[there])
    return text, drawn


def draw(names: tuple[str, ...], drawn: dict[str, Any]) -> None:
    """Errors over each label: the median and the ninth decile at each value."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 3.6), layout="constrained")
    axes = figure.subplots(1, len(names), sharey=True)
    units = {"teff": "Teff [K]", "logg": "log g [dex]", "mh": "[M/H] [dex]"}
    for k, name in enumerate(names):
        for n, (kind, (labels, error)) in enumerate(drawn.items()):
            values = np.unique(labels[:, k])
            middle, high = ([100 * np.quantile(error[labels[:, k] == x], q) for x in values] for q in (0.5, 0.9))
            axes[k].plot(values, middle, "o-", ms=3, lw=1, color=f"C{n}", label=kind)
            axes[k].plot(values, high, ":", lw=1, color=f"C{n}")
        axes[k].set(xlabel=units[name], yscale="log")
    axes[0].set_ylabel("RMS error of left-out models [% of flux]")
    handles, labels = axes[0].get_legend_handles_labels()
    labels = [SHOWN.get(label, label) for label in labels]
    figure.legend(handles, labels, loc="outside upper center", ncols=len(labels), fontsize=8, frameon=False,
                  title="median; dotted: ninth decile", title_fontsize=8)  # fmt: skip
    figure.savefig(FIGURE, dpi=110)


def main() -> None:
    """Build, judge, draw, write."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("data", type=Path)
    args = parser.parse_args()
    grid = build_grid("ck04", args.data / "grids" / "ck04", resolution="xp")
    text, drawn = judged(grid)
    print("\n".join(text))
    draw(grid.names, drawn)
    record = {**json.loads(grid.provenance), **ABOUT}
    # Left-out models are wrong by 0.02 %, far less than what the grid is wrong by in all stars alike.
    grid = with_errors(dataclasses.replace(grid, provenance=json.dumps(record), doubt=None), args.data)
    write_grid(grid, OUTPUT, compact=COMPACT, overwrite=True)
    print(f"\n{describe_grid(read_grid(OUTPUT))}\n\n{OUTPUT} written, {OUTPUT.stat().st_size / 1e3:.0f} kB")


if __name__ == "__main__":
    main()
