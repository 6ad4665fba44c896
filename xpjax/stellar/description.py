"""A grid in words: its labels and nodes, what is missing, where it comes from."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from xpjax.stellar.grid import StellarGrid
from xpjax.stellar.libraries.library import UNITS

LISTED = 12
"""Holes that are listed one by one."""
LEARNED = "systematic_learned"
"""What the provenance calls the evidence of errors that were learned from stars."""
RANGES = 4
"""Parts of a label's range for which errors are told."""


def describe_grid(grid: StellarGrid, *, brief: bool = False, every_hole: bool = False) -> str:
    """Describe a grid: labels, nodes, holes, resolution, sampling, origin and size.

    Parameters
    ----------
    grid : StellarGrid
        The grid.
    brief : bool, optional
        Tell only which labels the library has and what is missing, as after a build.
    every_hole : bool, optional
        List every hole, not the first twelve.

    Returns
    -------
    str
        Lines of text.

    Examples
    --------
    >>> wavelength = np.linspace(360.0, 990.0, 5)
    >>> grid = xpjax.stellar.StellarGrid((np.array([4000.0, 5000.0]),), np.ones((2, 5)), wavelength, ("teff",))
    >>> print(xpjax.stellar.describe_grid(grid).splitlines()[-1])
    2 spectra on 2 nodes (2 teff); no holes
    """
    record, holes = json.loads(grid.provenance), _holes(grid, every_hole)
    if brief:
        found = record.get("labels", {}).items()
        spans = (f"{n} {name} {low:g}" + (f"..{high:g}" if n > 1 else "") for name, (n, low, high) in found)
        return "\n".join([f"labels found: {', '.join(spans)}", *holes])
    x = np.asarray(grid.wavelength)
    samples = f"{len(x)} coefficients" if grid.sampling == "coefficients" else f"{len(x)} on {x[0]:g}..{x[-1]:g} nm"
    facts = [
        ("origin", grid.origin),
        ("library", f"{record.get('n_file', '?')} files, SHA-256 {str(record.get('sha256', '?'))[:16]}"),
        ("resolution", grid.resolution),
        ("sampling", f"{grid.sampling}, {samples}"),
        ("size", f"{int(np.prod(grid.shape)):,} nodes, {np.asarray(grid.flux).nbytes / 1e6:.1f} MB"),
    ]
    facts += [(key, record[key]) for key in ("citation", "licence") if key in record]
    if "left_out" in record:
        left = record["left_out"]
        facts.append(
            (
                "compressed",
                f"{left['n_component']} components leave out {left['rms']:.1e} RMS, "
                f"{left['worst']:.1e} of the worst spectrum",
            )
        )
    if "missed_rms" in record:
        missed = record["missed_rms"]
        facts.append(("not in XP's basis", f"{missed['median']:.2%} RMS, at most {missed['largest']:.2%}"))
    labels = [
        (f"{name} [{UNITS[name]}]" if name in UNITS else name, str(len(node)), nodes_in_words(node, _share(grid, k)))
        for k, (name, node) in enumerate(zip(grid.names, grid.nodes, strict=True))
    ]
    columns = _table([("label", "nodes", "values (share of holes)"), *labels])
    parts = [*_table([("what", "found"), *facts]), "", *columns, "", *holes]
    if grid.error is not None:
        own = ~grid.holes if grid.filled is None else ~grid.holes & ~np.asarray(grid.filled)
        errors = {"left-out models": np.asarray(grid.error)[own]}
        parts += ["", *errors_by_label(grid.names, grid.labels_of(own), errors)]
    if LEARNED in record:
        parts += ["", *_learned(record[LEARNED])]
    return "\n".join(parts)


def errors_by_label(names: Sequence[str], labels: np.ndarray, errors: Mapping[str, np.ndarray]) -> list[str]:
    """A table of errors (n,) of models with labels (n, n_label), in percent of the flux: all, and by range of a label.

    errors: by what made them. Each cell has the median and the ninth decile.
    """
    rows = [("labels", "models", *(f"{name}: median, 90 % [% of flux]" for name in errors))]
    parts = [("all", np.ones(len(labels), bool))]
    for name, x in zip(names, labels.T, strict=True):
        values = np.unique(x)
        cuts = values[np.unique(np.linspace(0, len(values), min(RANGES, len(values)) + 1).astype(int)[:-1])]
        for low, after in zip(cuts, [*cuts[1:], np.inf], strict=True):
            there = (x >= low) & (x < after)
            parts.append((f"{name} {low:g}..{x[there].max():g}", there))
    for text, there in parts:
        cells = [np.quantile(error[there], [0.5, 0.9]) * 100 for error in errors.values()]
        rows.append((text, f"{there.sum():,}", *(f"{low:.3f}, {high:.3f}" for low, high in cells)))
    return _table(rows)


def _learned(record: Mapping[str, Any]) -> list[str]:
    """What left-out stars are off by, without the errors common to stars that others taught, and with them."""

    def known(x: float | None) -> str:
        return "unknown" if x is None else f"{x:g}"

    before, after = record["without"], record["with"]
    names = [name for name, what in after.items() if isinstance(what, dict)]
    rows: list[Sequence[str]] = [("left-out stars", "off by, median", "pull", "without common errors: off by", "pull")]
    for name in names:
        cells = [known(part[name][what]) for part in (before, after) for what in ("median absolute difference", "pull")]
        rows.append((f"{name} [{UNITS[name]}]" if name in UNITS else name, *cells[2:], *cells[:2]))
    kinds = ((after, ""), (before, "; without common errors "))
    chi2 = [
        text + ", ".join(f"{known(per)} at {at:g} nm" for at, per in part["chi2/dof by mean wavelength of the light"])
        for part, text in kinds
    ]
    return [
        f"errors common to stars: {record['templates']} templates, learned from {record['stars']:,} stars",
        *_table(rows),
        "chi2/dof by the mean wavelength of the light: " + "".join(chi2),
        f"{after['at an edge or not converged']:,} of them are at an edge of the grid or did not converge: not "
        f"counted but in chi2; what the templates leave in each sample: {record['systematic_floor']:.1%} of the flux",
    ]


def _table(rows: Sequence[Sequence[str]]) -> list[str]:
    """Rows of text in columns as wide as they need, the first one underlined."""
    lines = [rows[0], ["-" * len(cell) for cell in rows[0]], *rows[1:]]
    width = [max(len(line[i]) for line in lines) for i in range(len(rows[0]))]
    return ["  ".join(cell.ljust(w) for cell, w in zip(line, width, strict=True)).rstrip() for line in lines]


def _share(grid: StellarGrid, label: int) -> np.ndarray:
    """The share of holes at each node of a label."""
    return np.asarray(grid.holes.mean(tuple(j for j in range(len(grid.names)) if j != label)))


def nodes_in_words(node: np.ndarray, share: np.ndarray) -> str:
    """Values of a label, runs with even steps as FIRST..LAST by STEP, the share of holes where there are some."""
    if not share.any():
        steps = np.diff(node)
        breaks = np.flatnonzero(np.abs(np.diff(steps)) > 1e-6 * np.abs(steps[1:])) + 1
        runs, start = [], 0
        for stop in [*breaks, len(node) - 1]:
            runs.append(f"{node[start]:g}..{node[stop]:g} by {steps[start]:g}")
            start = int(stop)
        if len(runs) < len(node) / 2:
            return ", ".join(runs)
    return " ".join(f"{x:g}" + (f" ({s:.0%})" if s else "") for x, s in zip(node, share, strict=True))


def _holes(grid: StellarGrid, every: bool) -> list[str]:
    """What is missing, in words."""
    holes, n = grid.holes, int(np.prod(grid.shape))
    sizes = " x ".join(f"{k} {name}" for k, name in zip(grid.shape, grid.names, strict=True))
    count = int(holes.sum())
    lines = [f"{n - count:,} spectra on {n:,} nodes ({sizes})" + ("; no holes" if not count else "")]
    if grid.filled is not None:
        lines.append(f"{int(np.sum(grid.filled)):,} of the spectra were interpolated between models and next to them")
    if count:
        labels = grid.labels_of(holes)
        shown = labels if every else labels[:LISTED]
        lines.append(f"{count:,} holes ({count / n:.1%}), {', '.join(grid.names)}:")
        lines += ["  " + "  ".join(f"{x:g}" for x in row) for row in shown]
        if len(shown) < count:
            lines.append("  ... (`xpjax labels grid info GRID --holes` lists them all)")
        for k, (name, node) in enumerate(zip(grid.names, grid.nodes, strict=True)):
            share = _share(grid, k)
            worst = int(np.argmax(share))
            if share[worst] > 2 * holes.mean() and share[worst] > 0.5:
                lines.append(
                    f"{share[worst]:.0%} of the nodes with {name} {node[worst]:g} are holes; --limits leaves it out"
                )
    return lines
