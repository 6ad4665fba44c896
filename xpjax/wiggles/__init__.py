"""Corrections of the systematic wiggles of XP spectra, carried into synthetic photometry.

`__all__` is public. What else is imported here serves other rooms of xpjax, and may change.
"""

from xpjax.wiggles.choice import (
    AnyCorrection as AnyCorrection,
    NetworkCorrection,
    choose_correction,
    linear_and_network as linear_and_network,
)
from xpjax.wiggles.comparison import (
    Trust as Trust,
    absolute_spectra as absolute_spectra,
    make_residuals,
    residuals_of_spectra as residuals_of_spectra,
)
from xpjax.wiggles.epochs import TrainingSettings, remove_checkpoints as remove_checkpoints
from xpjax.wiggles.feature_files import read_features, write_features
from xpjax.wiggles.features import Features as Features, floats as floats, make_features
from xpjax.wiggles.figures import plot_patterns as plot_patterns
from xpjax.wiggles.judgment import predict_residuals
from xpjax.wiggles.limits import Limits as Limits
from xpjax.wiggles.linear.fit import LinearSettings
from xpjax.wiggles.linear.pairs import read_pairs
from xpjax.wiggles.linear.train import train_linear
from xpjax.wiggles.magnitude import (
    CorrectedPhotometer as CorrectedPhotometer,
    corrected_photometry,
    make_photometer as make_photometer,
)
from xpjax.wiggles.meaning import Stated as Stated
from xpjax.wiggles.measure import Measurement as Measurement, measurement as measurement, photometry as photometry
from xpjax.wiggles.network import (
    WiggleCorrection,
    check_network as check_network,
    is_network as is_network,
    read_network,
    write_network,
)
from xpjax.wiggles.residuals import Residuals as Residuals, read_residuals, write_residuals
from xpjax.wiggles.spectra import correct_spectra
from xpjax.wiggles.tables import correct_with_tables, read_table_correction
from xpjax.wiggles.torch_state import network_from_torch
from xpjax.wiggles.training import train_network

__all__ = [
    "LinearSettings",
    "NetworkCorrection",
    "TrainingSettings",
    "WiggleCorrection",
    "choose_correction",
    "correct_spectra",
    "correct_with_tables",
    "corrected_photometry",
    "make_features",
    "make_residuals",
    "network_from_torch",
    "predict_residuals",
    "read_features",
    "read_network",
    "read_pairs",
    "read_residuals",
    "read_table_correction",
    "train_linear",
    "train_network",
    "write_features",
    "write_network",
    "write_residuals",
]
