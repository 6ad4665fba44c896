"""Table corrections of absolute spectra on the archive's grid (Huang et al. 2024, ApJS 271, 13): engine and loader.

    corrected f = f T_2(C2) T_3(C3) T_G(G)

C2 and C3 are slopes of the spectrum over the mean of its samples 62..77 (460..490 nm), per 1000 Angstrom: between the
means of samples 27..48 and 49..70 (390..434 nm), and 71..101 and 102..132. Each T is tabulated at its own steps of
0.001 and interpolated linearly, where the published code rounds. For stars fainter than the bright table's last step
the tables of G may have a second part. The published tables are not part of xpjax; the user downloads them.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float
from numpy.typing import ArrayLike

from xpjax.core import engine
from xpjax.core.constants import FLUX_UNIT
from xpjax.core.errors import XpjaxError
from xpjax.core.records import AnyArray
from xpjax.core.status import Status
from xpjax.xp import Spectra, check_uncorrected

NORM = slice(62, 78)
"""Samples of the archive's grid whose mean normalizes a spectrum."""
SLOPES = ((slice(27, 49), slice(49, 71)), (slice(71, 102), slice(102, 133)))
"""Samples between whose means C2 and C3 are slopes."""
START, STEP, N_SAMPLE = 336.0, 2.0, 343
"""The archive's grid [nm]."""
BP_SAMPLES = 105
"""The first samples, 336..544 nm, take BP's absolute factor, the others RP's."""
VALID = {"BP-RP": (-0.5, 2.0), "G": (3.0, 17.5), "E(B-V)": (0.0, 0.8)}
"""Where the published tables are tested: beyond, stars are flagged."""


class FactorTable(eqx.Module):
    """Factors (n_node, n_sample) at ascending nodes (n_node,), linear between them."""

    node: Float[AnyArray, " n_node"]
    factor: Float[AnyArray, "n_node n_sample"]

    def __check_init__(self) -> None:
        if np.ndim(self.factor) != 2 or np.shape(self.node) != np.shape(self.factor)[:1]:
            raise XpjaxError(f"table: {np.shape(self.node)} nodes do not fit factors {np.shape(self.factor)}")
        if isinstance(self.node, np.ndarray) and (len(self.node) < 2 or np.any(np.diff(self.node) <= 0)):
            raise XpjaxError("table: the nodes must be two or more and ascend")

    def __call__(self, x: Array) -> Array:
        """The factors (n_sample,) at x, those of the nearest end beyond the nodes."""
        node, factor = jnp.asarray(self.node), jnp.asarray(self.factor)
        at = jnp.clip(x, node[0], node[-1])
        k = jnp.clip(jnp.searchsorted(node, at, side="right") - 1, 0, len(node) - 2)
        t = (at - node[k]) / (node[k + 1] - node[k])
        return factor[k] * (1 - t) + factor[k + 1] * t

    def holds(self, x: Array) -> Array:
        """Whether x is within the nodes."""
        return (x >= self.node[0]) & (x <= self.node[-1])


class TableCorrection(eqx.Module):
    """The three tables; truncate: they are for truncated spectra. valid: ranges (3, 2) of BP-RP, G and E(B-V)."""

    c2: FactorTable
    c3: FactorTable
    g: FactorTable
    valid: Float[AnyArray, "3 2"]
    truncate: bool = eqx.field(static=True, default=False)


def archive_grid() -> np.ndarray:
    """The archive's wavelengths (343,) [nm]."""
    return START + STEP * np.arange(N_SAMPLE)


def slopes(flux: Array, error: Array | None = None) -> tuple[Array, Array]:
    """C2 and C3 of a spectrum (343,) on the archive's grid, per 1000 Angstrom of flux over its mean in 460..490 nm.

    error (343,): means are then weighted by the inverse fourth power of the relative error, as the published code does.
    """
    relative = flux / jnp.mean(flux[NORM])
    weight = jnp.ones_like(flux)
    if error is not None:
        own, of_norm = error / flux, jnp.sqrt(jnp.sum(error[NORM] ** 2)) / (NORM.stop - NORM.start)
        square = own**2 + (of_norm / jnp.mean(flux[NORM])) ** 2
        # numpy.polyfit squares the weights that it is given.
        weight = 1 / square**2
        weight /= jnp.max(weight)
    grid = jnp.arange(N_SAMPLE, dtype=flux.dtype) * (STEP / 100)
    out = []
    for low, high in SLOPES:
        means = [jnp.sum(weight[s] * relative[s]) / jnp.sum(weight[s]) for s in (low, high)]
        out.append((means[0] - means[1]) / (jnp.mean(grid[low]) - jnp.mean(grid[high])))
    return out[0], out[1]


def _table_kernel(
    constants: tuple[TableCorrection, Array], source: tuple[Array, Array | None, Array, Array]
) -> dict[str, Array]:
    """Corrected flux and error (343,) of one star, its C2 and C3, and status."""
    model, scale = constants
    flux, error, g, label = source
    flux = flux / scale
    error = None if error is None else error / scale
    c2, c3 = slopes(flux, error)
    missing = ~(jnp.isfinite(g) & jnp.isfinite(c2) & jnp.isfinite(c3))
    outside = ~(model.c2.holds(c2) & model.c3.holds(c3)) & ~missing
    valid = jnp.asarray(model.valid)
    untested = jnp.any((label < valid[:, 0]) | (label > valid[:, 1])) | ~(model.g.holds(g) | jnp.isnan(g)) | outside
    apply = ~(missing | outside)
    factor = model.c2(c2) * model.c3(c3) * model.g(g)
    factor = jnp.where(apply, factor, 1)
    status = jnp.where(missing, int(Status.FEATURE_MISSING), 0)
    status |= jnp.where(untested, int(Status.OUTSIDE_TRAINING), 0)
    status |= jnp.where(apply, 0, int(Status.NOT_CORRECTED))
    result = {"flux": flux * factor * scale, "status": status.astype(jnp.uint32), "c2": c2, "c3": c3}
    if error is not None:
        result["flux_error"] = error * jnp.abs(factor) * scale
    return result


@dataclasses.dataclass(frozen=True)
class TableCorrected:
    """Corrected spectra, and the slopes c2 and c3 (n,) that chose their factors."""

    spectra: Spectra
    c2: np.ndarray
    c3: np.ndarray


def correct_with_tables(
    spectra: Spectra,
    model: TableCorrection,
    g: ArrayLike,
    *,
    bp_rp: ArrayLike | None = None,
    ebv: ArrayLike | None = None,
    use_errors: bool = False,
    float64: bool = False,
    devices: engine.Devices = None,
) -> TableCorrected:
    """Correct spectra on the archive's wavelengths by tables of factors.

    Parameters
    ----------
    spectra : Spectra
        Uncorrected absolute spectra at 336, 338, ... 1020 nm.
    model : TableCorrection
        Factors by the slopes C2 and C3 and by G.
    g : (n,) array [mag]
        G of the stars.
    bp_rp, ebv : (n,) array, optional [mag]
        BP-RP and E(B-V), for the flags only.
    use_errors : bool
        C2 and C3 from means weighted by the errors, as published where errors are given.
    float64 : bool
        Compute in double precision.
    devices : optional
        Device names as of `xpjax.photometry`.

    Returns
    -------
    TableCorrected
        The corrected `spectra`, and the slopes `c2` and `c3` (n,) [per 1000 Angstrom] that chose their factors. Errors
        are multiplied by the same factors.

    Raises
    ------
    XpjaxError
        For another grid, spectra that are corrected or smoothed, and tables for truncated spectra on full ones.

    Notes
    -----
    corrected f = f T_2(C2) T_3(C3) T_G(G) (Huang et al. 2024, ApJS 271, 13). Slopes beyond their tables are not
    corrected (OUTSIDE_TRAINING and NOT_CORRECTED); a G beyond its table takes the factors of its end, flagged
    OUTSIDE_TRAINING, as are stars out of the tested ranges.

    Examples
    --------
    >>> from xpjax.wiggles.tables import FactorTable, TableCorrection
    >>> one = FactorTable(np.array([-50.0, 50.0]), np.full((2, 343), 1.01))
    >>> model = TableCorrection(one, one, one, np.array([[-1.0, 5.0], [3.0, 17.5], [0.0, 1.0]]))
    >>> spectra = xpjax.spectra(xpjax.simulate_sources(5, seed=1), errors=False)
    >>> found = xpjax.wiggles.correct_with_tables(spectra, model, np.full(5, 15.0))
    >>> round(float((found.spectra.flux / spectra.flux)[0, 100]), 4)
    1.0303
    """
    if spectra.internal or not np.array_equal(np.asarray(spectra.wavelength, float), archive_grid()):
        raise XpjaxError("table corrections are for absolute spectra on the archive's grid: leave out wavelength=")
    check_uncorrected(spectra, "the spectra")
    if bool(spectra.meta.get("truncate", model.truncate)) != model.truncate:
        made = "truncated" if model.truncate else "full"
        raise XpjaxError(f"these tables are for {made} spectra: make them with truncate={model.truncate}")
    if use_errors and spectra.flux_error is None:
        raise XpjaxError("use_errors=True needs spectra with errors")
    labels = _labels(len(spectra), bp_rp, g, ebv)
    error = spectra.flux_error
    source = (spectra.flux, error if use_errors else None, labels[:, 1], labels)
    constants = (model, np.asarray(FLUX_UNIT))
    out = engine.run(_table_kernel, constants, source, float64=float64, devices=devices, work_bytes=40 * N_SAMPLE)
    if error is not None:
        with np.errstate(divide="ignore", invalid="ignore"):
            factor = np.where(spectra.flux != 0, out["flux"] / spectra.flux, 1.0)
        error = error * np.abs(factor)
    status, meta = spectra.status | out["status"], {**spectra.meta, "corrected": True}
    changed = dataclasses.replace(spectra, flux=out["flux"], flux_error=error, status=status, meta=meta)
    return TableCorrected(changed, out["c2"], out["c3"])


def _labels(n: int, *given: Any) -> np.ndarray:
    """BP-RP, G and E(B-V) (n, 3), NaN where they are not given."""
    labels = np.full((n, 3), np.nan)
    for k, value in enumerate(given):
        if value is not None:
            array = np.asarray(value, float)
            if array.shape not in ((), (n,)):
                raise XpjaxError(f"{list(VALID)[k]} has shape {array.shape}, expected ({n},)")
            labels[:, k] = array
    return labels


def read_table_correction(folder: str | Path, *, truncate: bool = False, absolute: bool = True) -> TableCorrection:
    """Read the tables of Huang et al. (2024) from a folder in the published layout.

    Parameters
    ----------
    folder : str or Path
        Folder with the published files, which the user downloads.
    truncate : bool
        Read the tables for truncated spectra, dotruc_*, instead of those for full ones, untruc_*.
    absolute : bool
        Multiply the faint part by the absolute factors of BP and RP.

    Returns
    -------
    TableCorrection
        Factors by C2, C3 and G.

    Raises
    ------
    XpjaxError
        For a file that is missing or does not fit, naming it.

    Notes
    -----
    PREFIXinterC2_CM.csv, and interC3, interG, have nodes, a column without header; PREFIXinteryyC2_CM.csv and so on
    rows of 343 factors. For G from 10 to its last step, optional: interGext_CM.csv and PREFIXinteryyGext_CM.csv, which
    are scaled to the mean of the first table in samples 62..77 at the same G (its last value beyond), and with absolute
    inter_phot.csv, inter_BP.csv and inter_RP.csv, factors of BP's and RP's samples.

    Examples
    --------
    >>> for name, nodes in (("C2", [-9.0, 9.0]), ("C3", [-9.0, 9.0]), ("G", [3.0, 17.5])):
    ...     np.savetxt(f"untruc_inter{name}_CM.csv", nodes)
    ...     np.savetxt(f"untruc_interyy{name}_CM.csv", np.ones((2, 343)), delimiter=",")
    >>> xpjax.wiggles.read_table_correction(".").g.factor.shape
    (2, 343)
    """
    home = Path(folder)
    prefix = "dotruc_" if truncate else "untruc_"

    def table(node: str, factor: str) -> FactorTable:
        return FactorTable(_read(home / node)[:, 0], _read(home / factor, N_SAMPLE))

    c2, c3, bright = (table(f"{prefix}inter{k}_CM.csv", f"{prefix}interyy{k}_CM.csv") for k in ("C2", "C3", "G"))
    g = bright
    if (home / "interGext_CM.csv").exists():
        faint = table("interGext_CM.csv", f"{prefix}interyyGext_CM.csv")
        at = np.asarray(faint.node)
        level = np.asarray(bright.factor)[:, NORM].mean(axis=1)
        factor = np.asarray(faint.factor) * np.interp(at, np.asarray(bright.node), level)[:, None]
        if absolute:
            nodes = _read(home / "inter_phot.csv")[:, 0]
            for samples, name in ((slice(None, BP_SAMPLES), "BP"), (slice(BP_SAMPLES, None), "RP")):
                values = _read(home / f"inter_{name}.csv")[:, 0]
                if values.shape != nodes.shape:
                    raise XpjaxError(f"inter_{name}.csv has {len(values)} rows, inter_phot.csv {len(nodes)}")
                factor[:, samples] *= np.interp(at, nodes, values)[:, None]
        before = np.asarray(bright.node) < at[0]
        g = FactorTable(
            np.concatenate([np.asarray(bright.node)[before], at]),
            np.concatenate([np.asarray(bright.factor)[before], factor]),
        )
    return TableCorrection(c2, c3, g, np.array(list(VALID.values())), truncate)


def _read(path: Path, columns: int | None = None) -> np.ndarray:
    """Numbers (n, columns) of a CSV file without header. Raises XpjaxError naming it."""
    try:
        array = np.loadtxt(path, delimiter=",", ndmin=2)
    except (OSError, ValueError) as error:
        raise XpjaxError(
            f"{path.name} in {path.parent}: {error}; download the tables of Huang et al. (2024)"
        ) from error
    if columns is not None and array.shape[1] != columns:
        raise XpjaxError(f"{path.name} has {array.shape[1]} columns, expected {columns}: one for each sample")
    return array
