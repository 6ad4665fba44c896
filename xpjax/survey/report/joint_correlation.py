"""What a report shows of the covariance of a joint solution: correlations of its leading parameters."""

from __future__ import annotations

import functools
import itertools
from typing import TYPE_CHECKING

import numpy as np

from xpjax.core.errors import XpjaxError
from xpjax.survey.report.drawing import (
    plain,
)
from xpjax.survey.report.joint_evidence import JointEvidence, bands_of, name_of
from xpjax.survey.report.layout import WIDTH, Figure
from xpjax.survey.report.statistics import Missing

if TYPE_CHECKING:
    import matplotlib.figure

MOST_CORRELATED = 24
ALONE = 8
"""Places of a part whose correlations are shown apart; of more, the means of the bands are."""


def leading(evidence: JointEvidence) -> dict[str, np.ndarray]:
    """Combinations (n_column,) of columns by their names: those of few places, and means by band of many.

    Cells of flats and of the sky are left out: a constraint or a prior holds their means.
    """
    found, out = evidence.solution, dict[str, np.ndarray]()
    blocks = [block for block in found.blocks if evidence.kind(block) not in ("flat", "sky")]
    for block in sorted(blocks, key=lambda b: len(b.labels)):
        for part in block.parts:
            columns = found.places(block.name, part.name)
            known = np.isfinite(found.value[columns])
            few = known.sum() <= ALONE
            of_place = np.array(block.labels if few else bands_of(block))
            for name in dict.fromkeys(of_place[known].tolist()):
                mine = columns[known & (of_place == name)]
                row = np.zeros(len(found.value))
                row[mine] = 1 / len(mine)
                said = "" if name in ("", "all") else f" {name}"
                out[f"{'' if few else 'mean '}{name_of(block, part)}{said}"] = row
    return out


def correlated(evidence: JointEvidence) -> tuple[list[str], np.ndarray]:
    """Names of leading parameters, and their correlation coefficients (k, k). Raises Missing.

    Combinations that a constraint holds have none, and are left out.
    """
    found, rows = evidence.solution, leading(evidence)
    names = [*rows][:MOST_CORRELATED]
    if len(names) < 2:
        raise Missing("fewer than two parameters are common to several frames")
    matrix = np.array([rows[name] for name in names])
    try:
        covariance = found.covariance(matrix)
    except XpjaxError as why:
        raise Missing(str(why)) from why
    error = np.sqrt(np.maximum(np.diagonal(covariance), 0))
    single = np.array([np.nanmedian(found.error(np.flatnonzero(row))) for row in matrix])
    free = error > 1e-4 * single
    if free.sum() < 2:
        raise Missing("fewer than two leading parameters are free")
    error = error[free]
    return [name for name, one in zip(names, free, strict=True) if one], covariance[np.ix_(free, free)] / np.outer(
        error, error
    )


def correlation_figures(evidence: JointEvidence) -> list[Figure]:
    """The correlation matrix of the leading parameters. Raises Missing."""
    names, matrix = correlated(evidence)
    i, j = max(itertools.combinations(range(len(names)), 2), key=lambda pair: abs(matrix[pair]))
    caption = (
        f"Correlation coefficients of {len(names)} leading parameters: those common to many measurements, and means "
        f"by band of those with more than {ALONE} values. The strongest is {matrix[i, j]:+.2f}, of {names[i]} and "
        f"{names[j]}. What a constraint fixes is left out."
    )
    return [Figure("Correlation of parameters", caption, functools.partial(_draw_correlation, names, matrix))]


def _draw_correlation(names: list[str], matrix: np.ndarray, figure: matplotlib.figure.Figure) -> None:
    n = len(names)
    size = min(0.36 * n + 3.4, WIDTH)
    figure.set_size_inches(size, size - 0.6)
    axes = figure.subplots()
    image = axes.imshow(matrix, vmin=-1, vmax=1, cmap="RdBu_r")
    axes.set_xticks(range(n), [plain(name) for name in names], rotation=90, fontsize=8)
    axes.set_yticks(range(n), [plain(name) for name in names], fontsize=8)
    if n <= 16:
        for (i, j), r in np.ndenumerate(matrix):
            axes.text(j, i, f"{r:.2f}", ha="center", va="center", fontsize=7, color="w" if abs(r) > 0.6 else "k")
    figure.colorbar(image, ax=axes, label="correlation coefficient", shrink=0.8)
