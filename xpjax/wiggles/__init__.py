"""Corrections of the systematic wiggles of XP spectra, carried into synthetic photometry.

`__all__` is public. What else is imported here serves other rooms of xpjax, and may change.
"""

from xpjax.wiggles.features import COLUMNS as COLUMNS
from xpjax.wiggles.features import check_names as check_names
from xpjax.wiggles.features import concatenate as concatenate
from xpjax.wiggles.features import floats as floats
from xpjax.wiggles.features import make_features, read_features, write_features
from xpjax.wiggles.linear.figures import figure as figure
from xpjax.wiggles.linear.fit import LinearSettings
from xpjax.wiggles.linear.fit import Population as Population
from xpjax.wiggles.linear.pairs import read_pairs
from xpjax.wiggles.linear.train import train_linear
from xpjax.wiggles.magnitude import CorrectedPhotometer
from xpjax.wiggles.magnitude import Correcting as Correcting
from xpjax.wiggles.magnitude import linear_and_network as linear_and_network
from xpjax.wiggles.magnitude import prepared as prepared
from xpjax.wiggles.network import WiggleCorrection, correct_spectra, read_network, write_network
from xpjax.wiggles.residuals import Residuals, make_residuals, read_residuals
from xpjax.wiggles.training import WIDTHS as WIDTHS
from xpjax.wiggles.training import Step as Step
from xpjax.wiggles.training import TrainingSettings, predict, train_network
from xpjax.wiggles.training import remove_checkpoints as remove_checkpoints

__all__ = [
    "CorrectedPhotometer",
    "LinearSettings",
    "Residuals",
    "TrainingSettings",
    "WiggleCorrection",
    "correct_spectra",
    "make_features",
    "make_residuals",
    "predict",
    "read_features",
    "read_network",
    "read_pairs",
    "read_residuals",
    "train_linear",
    "train_network",
    "write_features",
    "write_network",
]
