"""Gaia's own magnitudes, corrected for their magnitude terms."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from xpjax.core.errors import XpjaxError


def correct_gaia(
    magnitudes: Mapping[str, np.ndarray], table: Mapping[str, np.ndarray], against: str = "G"
) -> dict[str, np.ndarray]:
    """Gaia magnitudes less their magnitude terms, by a user's table (after Yang et al. 2021, ApJL 908, L24).

    magnitudes: by name, `G`, `BP`, `RP` (n,). table: a column named like `against` with ascending nodes [mag], and a
    column `d_G`, `d_BP`, `d_RP` with observed minus true [mag] for each; linear between nodes, constant beyond them.
    Raises ValueError where the table has no such column or its nodes do not ascend.
    """
    if against not in table or against not in magnitudes:
        raise XpjaxError(f"corrections need {against!r} in the table and among the magnitudes: the nodes are in it")
    nodes = np.asarray(table[against], float)
    if len(nodes) < 2 or not (np.diff(nodes) > 0).all():
        raise XpjaxError(f"the nodes {against!r} of the magnitude corrections must ascend")
    out = {}
    for name, values in magnitudes.items():
        column = f"d_{name}"
        if column not in table:
            raise XpjaxError(f"the table of magnitude corrections has no column {column!r}; it has {list(table)}")
        out[name] = np.asarray(values, float) - np.interp(magnitudes[against], nodes, np.asarray(table[column], float))
    return out
