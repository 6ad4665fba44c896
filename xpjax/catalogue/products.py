"""What the rows of a catalogue are made of: magnitudes in a system, or labels that a fitter gives.

Both are plain data, which can be sent to other machines; the stages of a run know nothing else of them.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Callable
from typing import Any, TypeAlias

import jax
import numpy as np

from xpjax.core import engine
from xpjax.core.errors import XpjaxError, say
from xpjax.core.records import Catalogue
from xpjax.core.release import DR3, Release, other_release
from xpjax.stellar import LabelFits, LabelFitter
from xpjax.synthetic import Photometer, Photometry, as_system
from xpjax.wiggles import CorrectedPhotometer, NetworkCorrection, linear_and_network
from xpjax.xp import SourceTable, Subspace, XPCoefficients, check_truncation

GUARD_ROWS = 256
"""Rows of a batch of the few sources that are computed again: of one size, so that they too compile once."""


@dataclasses.dataclass(frozen=True)
class Magnitudes:
    """Fluxes and magnitudes, with errors if the photometer gives them, of corrected spectra if that is asked for.

    The photometer's system has a linear correction or none, correction is a network. systematic: with columns of what
    the linear one leaves, which the metadata tell at d^2 = 0 without them.
    """

    photometer: Photometer
    correction: NetworkCorrection | None = None
    systematic: bool = False

    @classmethod
    def of(cls, systems: Any, correction: Any, systematic: bool, release: Release, *options: bool) -> Magnitudes:
        """Magnitudes in systems of a release, corrected as for `xpjax.photometry`; options: those of a photometer."""
        linear, network = linear_and_network(correction)
        return cls(Photometer(as_system(systems, linear, release=release), *options), network, systematic)

    @property
    def errors(self) -> bool:
        """Whether errors and correlations of the coefficients are read."""
        return self.photometer.errors

    @property
    def options(self) -> dict[str, Any]:
        """What the rows depend on, as JSON."""
        plain, how = self.photometer, self.correction
        corrected: dict[str, Any] = {}
        if plain.system.domain is not None:
            corrected = {"linear correction": plain.system.correction, "systematic": self.systematic}
        if how is not None:
            rules = [how.ebv, how.gaia, how.teff, how.mh, *dataclasses.astuple(how.limits), how.feature_errors]
            stars = None if how.stars is None else [how.stars.source_id, how.stars.value, how.stars.ebv]
            corrected |= {"correction": _digest(how.model), "corrected with": rules, "features": _digest(stars)}
        return {
            "release": plain.system.release.name,  # first: what differs is told in this order
            **corrected,
            "systems": list(plain.system.columns),
            "passband curves": _digest(plain.system),
            **{name: getattr(plain, name) for name in ("errors", "truncate", "error_correction", "float64")},
        }

    @property
    def columns(self) -> tuple[str, ...]:
        """Further columns of the sources that are needed."""
        return () if self.correction is None else tuple(self.correction.columns)

    def check(self, release: Release, path: Any) -> None:
        """Raise ValueError for sources of another release than the system's, and for what cannot be corrected."""
        own = self.photometer.system.release
        if not own.fits(release):
            raise other_release(path, release, own)
        if self.correction is not None:
            CorrectedPhotometer.check(self.photometer, self.correction)

    def check_errors(self, table: SourceTable) -> None:
        """Raise XpjaxError where compact covariances, of such a table, do not hold the errors that are asked for."""
        if self.errors:
            self.photometer.prepared(table)

    def serving(self, subspace: Subspace) -> Subspace:
        """The axes of compact covariances that errors need. Raises XpjaxError as `check_errors`."""
        return self.photometer.serving(subspace)

    def empty(self, table: SourceTable, kept: dict[str, np.ndarray]) -> Catalogue:
        """The catalogue of a table without rows."""
        system = self.photometer.system
        flux = np.zeros((0, system.n_band), np.float32)
        error = flux if self.errors else None
        distance = None if system.domain is None else flux[:, 0]
        made = Photometry(table.source_id, system, flux, error, flux, error, table.status, distance=distance)
        made = dataclasses.replace(made, transits=table.transits)
        return self._told(made).catalogue(kept)

    def _told(self, made: Photometry) -> Photometry:
        """With or without the columns of what the linear correction leaves: they are a quarter of a catalogue."""
        if self.systematic:
            return made
        return dataclasses.replace(made, system=dataclasses.replace(made.system, systematic=None))

    def maker(self, chunk: int, devices: engine.Devices) -> Callable[[SourceTable], Photometry]:
        """What makes the rows of tables of about `chunk` sources; errors NaN where the input has none."""
        plain, network = self.photometer, self.correction
        photometer = plain if network is None else CorrectedPhotometer.prepare(plain, network)

        def make(table: SourceTable) -> Photometry:
            rows = self._batch_rows(chunk, table.coefficients, devices)
            result = photometer(table, devices=devices, batch_rows=rows, guard_rows=GUARD_ROWS)
            arrays: dict[str, Any] = {}
            for name in ("flux", "flux_error", "magnitude", "magnitude_error", "left"):
                array = getattr(result, name, None)
                if array is None and self.errors and name != "left":
                    array = np.full_like(result.flux, np.nan)
                if array is not None:
                    arrays[name] = np.ascontiguousarray(array.T).T  # a band in one piece
            return self._told(dataclasses.replace(result, **arrays))

        return make

    def _batch_rows(self, chunk: int, sources: XPCoefficients, devices: engine.Devices) -> int:
        """Rows of a batch: chunks are whole numbers of them, so that a job compiles once."""
        chosen = engine.find_devices(devices)
        system, size = self.photometer.system, 8 if self.photometer.float64 else 4
        numbers = system.release.n_basis_total + 2 * system.n_band
        if self.errors and sources.covariance is not None:
            # In, as half a number each, and as numbers; the results double.
            numbers += 2 * system.n_band + 3 * self.serving(sources.covariance.subspace).n_numbers // 2
        elif self.errors and sources.has_covariance:
            # In, and as products of errors; the results double too.
            numbers += numbers + 2 * system.release.n_pair_total
        if self.correction is not None:
            numbers += 2 * sum(sum(network.widths) for network in self.correction.model.networks)
        limit = engine.CPU_BATCH_BYTES if chosen[0].platform == "cpu" else engine.ACCELERATOR_BATCH_BYTES
        most = max(limit * len(chosen) // (size * numbers), 1)
        multiple = engine.ROW_MULTIPLE * len(chosen)
        share = -(-chunk // -(-chunk // most))
        return -(-max(share, min(engine.LEAST_ROWS, most)) // multiple) * multiple


@dataclasses.dataclass(frozen=True)
class Labels:
    """Stellar labels, with all that a fitter says of them."""

    fitter: LabelFitter
    release: Release = DR3

    errors = True

    @property
    def options(self) -> dict[str, Any]:
        """What the rows depend on, as JSON."""
        fit = self.fitter
        plain = [fit.ebv, fit.truncate, fit.covariance, fit.error_floor, fit.float64, sorted(fit.options.items())]
        known = {name: value for name in ("priors", "parallax") if (value := getattr(fit, name))}
        linear = {}
        if (own := fit.linear) is not None:
            linear = {"linear correction": own.name, "change": _digest([own.change, own.domain])}
        other = {} if self.release.fits(DR3) else {"release": self.release.name}
        return {
            **other,
            "labels": list(fit.interpolator.names),
            "grid": _digest(fit.model),
            "fitted with": json.loads(json.dumps(plain)),
            "correction": None if fit.network is None else _digest(fit.network.model),
            **linear,
            **json.loads(json.dumps(known)),
        }

    @property
    def columns(self) -> tuple[str, ...]:
        """Further columns of the sources that are needed."""
        return self.fitter.columns

    def check(self, release: Release, path: Any) -> None:
        """Raise ValueError for sources of another release than the fitter's corrections; it looks at them itself."""
        if self.fitter.posterior:
            one, other = say("fit_label_files", "`xpjax labels fit`"), say("posterior", "--posterior")
            raise XpjaxError(f"draws of posteriors are for some hundreds of stars: {one} gives them; leave {other} out")
        self.fitter.check(release)

    def check_errors(self, table: SourceTable) -> None:
        """Raise XpjaxError where the spectra of such a table are to be truncated and cannot."""
        if self.fitter.truncated(table):
            check_truncation(table, errors=False)

    def serving(self, subspace: Subspace) -> Subspace:
        """The axes of compact covariances that errors need: all that there are."""
        return subspace

    def empty(self, table: SourceTable, kept: dict[str, np.ndarray]) -> None:
        """Not known before a fit."""

    def maker(self, chunk: int, devices: engine.Devices) -> Callable[[SourceTable], LabelFits]:
        """What makes the rows of tables; the fitter has batches of its own."""
        return lambda table: self.fitter(table, devices=devices)


def _digest(tree: Any) -> str:
    """A checksum of the arrays in a tree."""
    digest = hashlib.sha256()
    for leaf in jax.tree.leaves(tree):
        digest.update(np.ascontiguousarray(leaf).tobytes())
    return digest.hexdigest()[:16]


Content: TypeAlias = Magnitudes | Labels
