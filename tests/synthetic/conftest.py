"""A chain in a folder of its own."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tests.synthetic.helpers import TOML, bell
from xpjax.synthetic.chain import TransmissionChain
from xpjax.synthetic.chain_file import read_chain


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    x = np.arange(380.0, 580.5, 0.5)
    (tmp_path / "g.csv").write_text(
        "wavelength,transmission\n" + "\n".join(f"{a},{b:.8f}" for a, b in zip(x, bell(x, 480, 60)))
    )
    x = np.arange(760.0, 539.9, -0.5)  # descending, in Angstrom
    (tmp_path / "r.txt").write_text("# r\n" + "\n".join(f"{10 * a} {b:.8f}" for a, b in zip(x, bell(x, 640, 60))))
    (tmp_path / "system.toml").write_text(TOML)
    return tmp_path


@pytest.fixture
def chain(folder: Path) -> TransmissionChain:
    return read_chain(folder / "system.toml")
