"""Grids in words."""

import numpy as np

from tests.stellar.helpers import made_grid
from xpjax.stellar.description import describe_grid, nodes_in_words


def test_nodes_in_words() -> None:
    none = np.zeros(8)
    assert (
        nodes_in_words(np.array([4.0, 4.1, 4.2, 4.3, 4.4, 5.0, 6.0, 7.0]), none)
        == "4..4.4 by 0.1, 4.4..5 by 0.6, 5..7 by 1"
    )
    assert nodes_in_words(np.array([1.0, 2.0]), none[:2]) == "1 2"
    assert nodes_in_words(np.array([1.0, 2.0, 4.0]), np.array([0.0, 0.5, 0.0])) == "1 2 (50%) 4"


def test_a_grid_is_described() -> None:
    grid = made_grid(holes=((4, 1, 2), (0, 0, 0)))
    text = describe_grid(grid)
    assert "178 spectra on 180 nodes (9 teff x 4 logg x 5 mh)" in text
    assert "2 holes (1.1%), teff, logg, mh:\n  4000  3.5  -1.5\n  4800  4  -0.5" in text
    assert "sampling    own, 80 on 360..990 nm" in text
    assert describe_grid(grid, brief=True).startswith("labels found: \n178 spectra")
    assert repr(grid) == "StellarGrid(9 teff x 4 logg x 5 mh, 80 wavelengths 360..990 nm, 2 holes)"
