"""Residuals of XP spectra against the models that fit them best: what a wiggle correction is trained on."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Unpack

import numpy as np

from xpjax.core.errors import XpjaxError, say
from xpjax.core.ids import places_of
from xpjax.core.status import FitStatus
from xpjax.core.types import AnyTable
from xpjax.extinction import AV_PER_SFD, R_V
from xpjax.io.tables import open_table
from xpjax.stellar.grid import StellarGrid
from xpjax.stellar.grid_file import grid_digest, read_grid
from xpjax.stellar.interpolation import interpolate_grid, model_spectra
from xpjax.stellar.sampling import interpolate_spectra
from xpjax.wiggles import Features, Residuals, Stated, Trust, absolute_spectra, make_residuals, read_features
from xpjax.xp import Spectra, source_ids


def residuals_of_fits(
    spectra: Spectra | str | Path,
    stars: Features | str | Path,
    fits: AnyTable,
    grid: StellarGrid | str | Path,
    *,
    reference: AnyTable | None = None,
    trust: Trust | None = None,
    **how: Unpack[Stated],
) -> tuple[Residuals, dict[str, int]]:
    """Compare spectra with the models at their fitted labels.

    Parameters
    ----------
    spectra : Spectra or path
        Sampled absolute spectra [W m-2 nm-1] of n sources, or a file that `xpjax.xp.read_spectra` reads.
    stars : Features or path
        Features by source_id; with E(B-V) for the space dereddened.
    fits : path or table
        Fitted labels by source_id, with fit_status; only converged fits inside the grid are used.
    grid : StellarGrid, path or str
        The grid that the labels were fitted on, or its name, as "ck04".
    reference : path or table, optional
        Reference labels by source_id, such as those of APOGEE, with which fits must agree.
    trust : Trust, optional
        Least signal-to-noise ratio, and how far fits may be from reference labels.
    **how
        kind, space, law, r_v and per_ebv, as of `xpjax.wiggles.make_residuals`.

    Returns
    -------
    residuals : Residuals
        The training set, at the wavelengths of the grid [nm].
    counts : dict of str to int
        Stars that were left out, by reason.

    Raises
    ------
    XpjaxError
        If the labels say that they were fitted on another grid, or to spectra dereddened in another way.

    Examples
    --------
    >>> wavelength = np.arange(340.0, 1010.0, 10.0)
    >>> sources = xpjax.simulate_sources(30, seed=1)
    >>> spectra = xpjax.spectra(sources, wavelength)
    >>> models = spectra.flux[:3] / spectra.flux[:3].mean(axis=1, keepdims=True)
    >>> grid = xpjax.stellar.StellarGrid((np.array([4000.0, 5000.0, 6000.0]),), models, wavelength, ("teff",))
    >>> fits = {"source_id": sources.source_id, "teff": np.full(30, 5000.0), "fit_status": np.zeros(30, int)}
    >>> stars = xpjax.wiggles.make_features(sources, "color")
    >>> found, counts = xpjax.stellar.residuals_of_fits(spectra, stars, fits, grid, space="observed")
    >>> found.residual.shape[1]
    67
    """
    own, trust = absolute_spectra(spectra), trust or Trust()
    features = stars if isinstance(stars, Features) else read_features(stars)
    models = grid if isinstance(grid, StellarGrid) else read_grid(grid)
    model, at = interpolate_grid(models), np.asarray(models.wavelength, float)
    columns, about = _numbers(fits, ["fit_status", *model.names])
    dust = {name: how.get(name) for name in ("law", "r_v", "per_ebv")}
    called = "the grid" if isinstance(grid, StellarGrid) else Path(grid).name
    _check_fits(about, _origin(fits), grid_digest(models), called, {} if how.get("space") == "observed" else dust)
    place = places_of(own.source_id, columns["source_id"])
    known = (place >= 0) & (columns["fit_status"][place] == int(FitStatus.OK))
    values = np.stack([columns[name][place] for name in model.names], axis=1)
    true = np.full((len(known), len(at)), np.nan)
    true[known] = model_spectra(model, values[known])
    said: Any = {"truncate": own.meta.get("truncate"), **how}
    return make_residuals(
        features.matched(own.source_id),
        at,
        interpolate_spectra(own.wavelength, own.flux, at),
        true,
        flux_error=None if own.flux_error is None else interpolate_spectra(own.wavelength, own.flux_error, at),
        fitted={name: np.where(known, values[:, k], np.nan) for k, name in enumerate(model.names)},
        reference=None if reference is None else _looked_up(reference, list(trust.differences), own.source_id),
        trust=trust,
        base=str(own.meta.get("correction", "none")),
        **said,
    )


def _looked_up(table: Any, names: list[str], source_id: np.ndarray) -> dict[str, np.ndarray]:
    """Columns of numbers (n,) of these sources; NaN for those that the table does not have."""
    columns, _ = _numbers(table, names)
    place = places_of(source_id, columns["source_id"])
    return {name: np.where(place >= 0, columns[name][place], np.nan) for name in names}


def _origin(table: Any) -> str:
    return Path(table).name if isinstance(table, str | Path) else "the table of labels"


def _numbers(table: Any, names: list[str]) -> tuple[Mapping[str, np.ndarray], Mapping[str, Any]]:
    """Columns of numbers of a table in which sources are looked up, with source_id; and what it says of them.

    Raises XpjaxError where there are none, or no rows.
    """
    opened = open_table(table)
    if not len(opened):
        raise XpjaxError(f"{_origin(table)} has no rows: no source can be found in it")
    opened.load(["source_id", *names])
    kinds = {name: "temperature" if name == "teff" else None for name in names}
    return {"source_id": source_ids(opened), **{n: opened.column(n).numbers(kinds[n]) for n in names}}, opened.meta


def _check_fits(about: Mapping[str, Any], name: str, digest: str, grid: str, dust: Mapping[str, Any]) -> None:
    """Refuse labels that say that they are of another grid, or of spectra dereddened in another way."""
    own = str(about.get("grid_digest", digest))
    if own != digest:
        option = say("grid=", "--grid")
        raise XpjaxError(
            f"{name}: the labels were fitted on another grid ({about.get('grid', 'of no name')}) than {grid}: give "
            f"{option} that one, or fit again"
        )
    usual: dict[str, Any] = {"law": "ccm89", "r_v": R_V, "per_ebv": AV_PER_SFD}
    for key, chosen in dust.items():
        wanted = usual[key] if chosen is None else chosen
        found = about.get(key, wanted)
        if str(found) != str(wanted) and (key == "law" or abs(float(found) - float(wanted)) > 1e-6):
            option = say(f"{key}={found!r}", f"--{key.replace('_', '-')} {found}")
            raise XpjaxError(
                f"{name}: the labels are of spectra dereddened with {key} {found}, the residuals would be with {wanted}"
                f": give {option}, or fit again"
            )
