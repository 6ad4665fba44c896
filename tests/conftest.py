"""Fixtures shared by all tests: real data where they are present, made data everywhere."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

# Several workers, and what they start, have a core each: threads of their own would only wait for one another.
if "PYTEST_XDIST_WORKER" in os.environ:
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import numpy as np
import pytest

SHARED = Path(__file__).parents[2] / "shared" / "data"


@pytest.fixture(scope="session")
def shared() -> Callable[[str], Path]:
    """A real data file by its name; skips, saying so, where it is absent."""

    def find(name: str) -> Path:
        path = SHARED / name
        if not path.exists():
            pytest.skip(f"real data {name} not present beside this checkout")
        return path

    return find


@pytest.fixture(autouse=True, scope="module")
def _compiled_programs() -> Iterator[None]:
    """Let compiled programs go before the process has as many mappings of memory as Linux allows it (65,530).

    Each program holds some thirty of them, and at the limit LLVM dies of a segmentation fault.
    """
    yield
    maps = Path("/proc/self/maps")
    if maps.exists() and maps.read_bytes().count(b"\n") > 15_000:
        import jax

        jax.clear_caches()


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(20221)


@pytest.fixture(autouse=True)
def _no_latex() -> None:
    """GaiaXPy, once imported, makes matplotlib typeset with LaTeX for everyone."""
    import matplotlib as mpl

    mpl.rcParams["text.usetex"] = False
