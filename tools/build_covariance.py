"""The subspace of compact covariances: what passbands and samples can see of the covariance of the coefficients.

    python tools/build_covariance.py [--release "Gaia DR4"]      # writes xpjax/data/covariance_dr3.h5

Of shipped data alone: the mean correlation matrix R0 and error curves of the population (`build_population.py`), the
instrument's design matrix on 330(0.5)1050 nm and on its own wavelengths, and the projections of all published bands.
For each XP, with the template t of errors (geometric mean one) and W = (mean R)^1/2:

    V (n_basis, n_basis)   orthonormal; its first p columns span W diag(t) r of all these projections r
    mean = diag(t) W W diag(t)        reduce = diag(1/t) W^-1 V        query = V' W diag(t)

The first p are found by reweighted singular value decompositions, which make the worst residual small: it falls tenfold
for two dimensions more. The further columns complete the space. A linear correction draws on all of it: on directions
that no sample of an uncorrected spectrum sees.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import h5py
import numpy as np

from xpjax.core.constants import XP_RANGE
from xpjax.core.paths import DATA, release_key
from xpjax.core.release import DR3, Release, find_release, release_attributes, release_of
from xpjax.io.hdf5 import write_model
from xpjax.synthetic import as_system, available_systems
from xpjax.xp import load_instrument
from xpjax.xp.compact import FORMAT, VERSION

POPULATION = DATA / "population_dr3.h5"
LEADING = (44, 46)
"""Dimensions of each XP that hold every published band and sample to a residual of 2e-4 of its error."""
ROUNDS = 80


def template(release: Release, k: int) -> tuple[np.ndarray, np.ndarray]:
    """Errors (n_basis,) of one XP, of geometric mean one, and the mean correlation matrix, both of the population."""
    with h5py.File(POPULATION) as file:
        stored, n = release_of(file.attrs), release.n_basis[k]
        curve = file["error/curve"][:, stored.slices[k]].astype(float)[:, :n]
        packed = file["correlation/packed"][:, stored.pair_slices[k]].astype(float).mean(axis=0)
    error = np.exp((curve - curve.mean(axis=1, keepdims=True)).mean(axis=0))
    matrix = np.eye(stored.n_basis[k])
    rows, columns = np.tril_indices(len(matrix), -1)
    matrix[rows, columns] = matrix[columns, rows] = packed
    return error, matrix[:n, :n]


def leading(unit: np.ndarray, p: int) -> tuple[np.ndarray, float]:
    """Orthonormal (n, n), its first p columns nearest to unit vectors (n, m) at worst; and that worst residual."""
    weight = np.ones(unit.shape[1])
    best, found = np.inf, np.eye(len(unit))
    for _ in range(ROUNDS):
        full = np.linalg.eigh((unit * weight) @ (unit * weight).T)[1][:, ::-1]
        residual = np.sqrt(np.maximum(1 - ((full[:, :p].T @ unit) ** 2).sum(axis=0), 0))
        if residual.max() < best:
            best, found = residual.max(), full
        weight *= np.clip(np.sqrt(residual / max(0.3 * residual.max(), 1e-12)), 0.5, 2)
        weight = np.maximum(weight, 1e-7 * weight.max()) / weight.max()
    return found, float(best)


def build(release: Release, output: Path) -> None:
    """Write the file of a release."""
    instrument = load_instrument(release=release)
    bands = as_system(list(available_systems(release=release)), release=release)
    fine = np.arange(XP_RANGE[0], XP_RANGE[1] + 0.01, 0.5)
    seen = [bands.projection, instrument.design(fine).value, instrument.design().value]
    vectors = np.concatenate([np.asarray(one, float) for one in seen], axis=1)
    arrays: dict[str, np.ndarray] = {}
    for k, (xp, rows) in enumerate(zip(release.xp, release.slices, strict=True)):
        error, matrix = template(release, k)
        value, axes = np.linalg.eigh(matrix)
        root, back = (axes * np.sqrt(value)) @ axes.T, (axes / np.sqrt(value)) @ axes.T
        own = root @ (error[:, None] * vectors[rows])
        length = np.linalg.norm(own, axis=0)
        basis, worst = leading(own[:, length > 0] / length[length > 0], LEADING[k])
        print(f"{xp}: {LEADING[k]} of {len(error)} dimensions, worst residual {worst:.1e}")
        arrays[f"{xp}/mean"] = error[:, None] * matrix * error
        arrays[f"{xp}/reduce"] = (back @ basis) / error[:, None]
        arrays[f"{xp}/query"] = basis.T @ root * error
    said = {
        "title": "Subspace of compact covariances of XP coefficients for xpjax",
        "made_by": "tools/build_covariance.py",
        "made_from": f"{POPULATION.name}, instrument {instrument.model}, {bands.n_band} published bands; no source",
        "leading": list(LEADING),
    }
    write_model(output, FORMAT, VERSION, arrays, {**release_attributes(release), **said}, overwrite=True)


def main() -> None:
    """Build the file of the release that the command line names."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--release", default=DR3.name)
    release = find_release(parser.parse_args().release)
    build(release, DATA / f"covariance_{release_key(release)}.h5")


if __name__ == "__main__":
    main()
