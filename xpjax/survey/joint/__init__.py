"""Stars, exposures and transmission in one least-squares solution.

`__all__` is public. What else is imported here serves other rooms of xpjax, and may change.
"""

from xpjax.survey.joint.apply import apply_joint
from xpjax.survey.joint.check import check_joint
from xpjax.survey.joint.config import (
    read_further as read_further,
    read_joint_config as read_joint_config,
    sections as sections,
    solve_survey,
)
from xpjax.survey.joint.constraints import Constraint
from xpjax.survey.joint.detector import Drift, Nonlinearity, Seeing
from xpjax.survey.joint.extend import extend_joint
from xpjax.survey.joint.files import find_joint as find_joint, read_joint_solution, write_joint_solution
from xpjax.survey.joint.instrument import InstrumentModes, solved_correction
from xpjax.survey.joint.parameters import Parameter
from xpjax.survey.joint.priors import StarPrior, xp_prior
from xpjax.survey.joint.problem import JointModel, prepare_joint
from xpjax.survey.joint.sky import Sky
from xpjax.survey.joint.solution import JointSolution
from xpjax.survey.joint.solve import solve_joint, solve_prepared
from xpjax.survey.joint.terms import TERMS as TERMS, Color, Covariate, Extinction, Flat, ZeroPoint
from xpjax.survey.joint.transmission import Transmission

__all__ = [
    "Color",
    "Constraint",
    "Covariate",
    "Drift",
    "Extinction",
    "Flat",
    "InstrumentModes",
    "JointModel",
    "JointSolution",
    "Nonlinearity",
    "Parameter",
    "Seeing",
    "Sky",
    "StarPrior",
    "Transmission",
    "ZeroPoint",
    "apply_joint",
    "check_joint",
    "extend_joint",
    "prepare_joint",
    "read_joint_solution",
    "solve_joint",
    "solve_prepared",
    "solve_survey",
    "solved_correction",
    "write_joint_solution",
    "xp_prior",
]
