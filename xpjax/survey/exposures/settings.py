"""How a survey is calibrated."""

from __future__ import annotations

import dataclasses

from xpjax.core.errors import XpjaxError
from xpjax.survey.exposures.model import ExposureModel


@dataclasses.dataclass(frozen=True)
class CalibrationSettings:
    """Set how a survey is calibrated.

    Parameters
    ----------
    model : ExposureModel
        Model of each exposure.
    size : (float, float, float, float) [pixel], optional
        x from and to, y from and to of the detector; by default what the rows span.
    numerical_flat : bool
        Whether to apply a local flat of each exposure, from the nearest standards.
    neighbors : int
        Number of standards of the numerical flat.
    stacked_flat : bool
        Whether to fit flats of many exposures, in cells.
    bins : int
        Number of cells of the stacked flat along a side.
    smooth : float [cell]
        Standard deviation of the Gaussian that smooths the stacked flat.
    interpolation : int
        Order of the spline between cells, 1 or 3.
    epoch : str or float [d]
        Exposures that share a stacked flat: "all", "night", or those of so many days.
    star_offsets : bool
        Whether to fit offsets of stars beside the stacked flat.
    rounds : int
        Number of rounds of fits and stacked flats.
    few : int, optional
        Exposures with fewer standards lean on their night; by default three for each term.
    cloud : float [mag]
        Difference from the zero-point of the night that is flagged.
    scatter : float
        Ratio to the error floor of the night that is flagged.
    systematic_error : float [mag]
        Common error of the standards.

    Raises
    ------
    XpjaxError
        If a value is outside its range.

    Examples
    --------
    >>> xpjax.survey.exposures.CalibrationSettings(numerical_flat=True).neighbors
    20
    """

    model: ExposureModel = dataclasses.field(default_factory=ExposureModel)
    size: tuple[float, float, float, float] | None = None
    numerical_flat: bool = False
    neighbors: int = 20
    stacked_flat: bool = False
    bins: int = 30
    smooth: float = 0.0
    interpolation: int = 3
    epoch: str | float = "all"
    star_offsets: bool = True
    rounds: int = 2
    few: int | None = None
    cloud: float = 0.1
    scatter: float = 3.0
    systematic_error: float = 0.0

    def __post_init__(self) -> None:
        for name, low, high in (("neighbors", 6, 1000), ("bins", 2, 1000), ("rounds", 1, 20)):
            if not low <= getattr(self, name) <= high:
                raise XpjaxError(f"{name} must be {low}..{high}, not {getattr(self, name)!r}")
        if self.interpolation not in (1, 3):
            raise XpjaxError(f"interpolation is a spline of order 1 or 3, not {self.interpolation!r}")
        for name in ("smooth", "cloud", "scatter", "systematic_error"):
            if not getattr(self, name) >= 0:
                raise XpjaxError(f"{name} must not be negative: {getattr(self, name)!r}")
        if not (self.epoch in ("all", "night") or (isinstance(self.epoch, int | float) and self.epoch > 0)):
            raise XpjaxError(f'epoch is "all", "night" or a number of days, not {self.epoch!r}')
