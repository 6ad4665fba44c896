"""The axes of compact covariances, those first in which passbands and samples see the covariance of the coefficients.

    python tools/build_covariance.py [--release "Gaia DR4"]      # writes xpjax/data/covariance_dr3.h5

Of shipped data alone: the mean correlation matrix R0 and error curves of the population (`build_population.py`), the
instrument's design matrix on 330(0.5)1050 nm and on its own wavelengths, and the projections of all published bands.
For each XP, with the template t of errors (geometric mean one) and W = (mean R)^1/2:

    V (n_basis, n_basis)   orthonormal; its first p columns span W diag(t) r of all these projections r
    mean = diag(t) W W diag(t)        reduce = diag(1/t) W^-1 V        query = V' W diag(t)

The first p are found by reweighted singular value decompositions, which make the worst residual small: it falls tenfold
for two dimensions more. The further columns complete the space: in them those come first on which samples with the
linear correction draw most, which draw on directions that no sample of an uncorrected spectrum sees. `size` is the RMS
of each further element of M in the population, and `again` names those on which most is drawn, which get two counts.
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
from xpjax.xp.correction import STANDARD, load_correction

POPULATION = DATA / "population_dr3.h5"
LEADING = (44, 46)
"""Dimensions of each XP that hold every published band and sample to a residual of 2e-4 of its error."""
ROUNDS = 80
MULTIPLE = 64
"""Rows of the rest are whole lines of a cache: at least an eighth more counts than elements."""


def population(release: Release, k: int) -> tuple[np.ndarray, np.ndarray]:
    """Errors (m, n_basis) of one XP, of geometric mean one, and correlation matrices of the population."""
    with h5py.File(POPULATION) as file:
        stored, n = release_of(file.attrs), release.n_basis[k]
        curve = file["error/curve"][:, stored.slices[k]].astype(float)[:, :n]
        packed = file["correlation/packed"][:, stored.pair_slices[k]].astype(float)
    matrix = np.tile(np.eye(stored.n_basis[k]), (len(packed), 1, 1))
    rows, columns = np.tril_indices(stored.n_basis[k], -1)
    matrix[:, rows, columns] = matrix[:, columns, rows] = packed
    return np.exp(curve - curve.mean(axis=1, keepdims=True)), matrix[:, :n, :n]


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


def completed(basis: np.ndarray, p: int, drawn: np.ndarray) -> np.ndarray:
    """The basis (n, n) with its columns from p on turned: those first on which vectors (n, m) draw most."""
    turn = np.linalg.svd(basis[:, p:].T @ drawn)[0]
    return np.concatenate([basis[:, :p], basis[:, p:] @ turn], axis=1)


def rest(
    reduce: np.ndarray, p: int, own: np.ndarray, errors: np.ndarray, matrices: np.ndarray
) -> tuple[np.ndarray, ...]:
    """Sizes of the elements of M after the leading block, and which have two counts; own (n, m): drawn on the axes."""
    n = len(reduce)
    rows, columns = (index[p * (p + 1) // 2 :] for index in np.tril_indices(n))
    square = np.zeros(len(rows))
    for error in errors:
        half = error[:, None] * reduce
        made = np.einsum("ip,sij,jq->spq", half, matrices, half, optimize=True)
        level = made[:, range(p, n), range(p, n)].max(axis=1)
        square += ((made[:, rows, columns] / level[:, None]) ** 2).sum(axis=0)
    size = np.sqrt(square / len(errors) / len(matrices))
    drawn = np.sqrt(((own[rows] * own[columns]) ** 2).mean(axis=1)) * np.where(rows == columns, 1, 2)
    width = -(-len(rows) * 9 // 8 // MULTIPLE) * MULTIPLE
    return size, np.sort(np.argsort(-drawn * size)[: width - len(rows)])


def build(release: Release, output: Path) -> None:
    """Write the file of a release."""
    instrument = load_instrument(release=release)
    bands = as_system(list(available_systems(release=release)), release=release)
    fine = np.arange(XP_RANGE[0], XP_RANGE[1] + 0.01, 0.5)
    seen = [bands.projection, instrument.design(fine).value, instrument.design().value]
    vectors = np.concatenate([np.asarray(one, float) for one in seen], axis=1)
    # A release without a correction: any direction is as likely to be drawn on as another.
    known = load_correction(STANDARD)
    corrected = instrument.corrected() if known is not None and known.release.fits(release) else None
    drawn = np.eye(len(vectors)) if corrected is None else np.asarray(corrected.design(fine).value, float)
    arrays: dict[str, np.ndarray] = {}
    whitened, turned = {}, {}
    for k, (xp, rows) in enumerate(zip(release.xp, release.slices, strict=True)):
        errors, matrices = population(release, k)
        error, matrix = np.exp(np.log(errors).mean(axis=0)), matrices.mean(axis=0)
        value, axes = np.linalg.eigh(matrix)
        root, back = (axes * np.sqrt(value)) @ axes.T, (axes / np.sqrt(value)) @ axes.T
        own = root @ (error[:, None] * vectors[rows])
        length = np.linalg.norm(own, axis=0)
        basis, worst = leading(own[:, length > 0] / length[length > 0], LEADING[k])
        print(f"{xp}: {LEADING[k]} of {len(error)} dimensions, worst residual {worst:.1e}")
        whitened[xp], turned[xp] = root @ (error[:, None] * drawn[rows]), (basis, root * error, back / error[:, None])
        arrays[f"{xp}/mean"] = error[:, None] * matrix * error
    length = np.sqrt(sum((own**2).sum(axis=0) for own in whitened.values()))
    for k, (xp, (basis, root, back)) in enumerate(turned.items()):
        unit = whitened[xp] / length
        basis = completed(basis, LEADING[k], unit)
        arrays[f"{xp}/reduce"], arrays[f"{xp}/query"] = back @ basis, basis.T @ root
        arrays[f"{xp}/size"], arrays[f"{xp}/again"] = rest(
            arrays[f"{xp}/reduce"], LEADING[k], basis.T @ unit, *population(release, k)
        )
        arrays[f"{xp}/n_leading"] = np.asarray(LEADING[k])
    said = {
        "title": "Subspace of compact covariances of XP coefficients for xpjax",
        "made_by": "tools/build_covariance.py",
        "made_from": f"{POPULATION.name}, instrument {instrument.model}, {bands.n_band} published bands, "
        f"correction {STANDARD if corrected else 'none'}; no source",
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
