"""Stars, exposures and transmission in one least-squares solution.

`__all__` is public. What else is imported here serves other rooms of xpjax, and may change.
"""

from xpjax.survey.joint.config import sections as sections, solve_survey
from xpjax.survey.joint.constraints import Constraint
from xpjax.survey.joint.files import read_joint_solution, write_joint_solution
from xpjax.survey.joint.priors import StarPrior, xp_prior
from xpjax.survey.joint.problem import JointModel, prepare_joint
from xpjax.survey.joint.solution import JointSolution
from xpjax.survey.joint.solve import solve_joint, solve_prepared
from xpjax.survey.joint.terms import Color, Covariate, Extinction, Flat, ZeroPoint
from xpjax.survey.joint.transmission import Parameter, Transmission

__all__ = [
    "Color",
    "Constraint",
    "Covariate",
    "Extinction",
    "Flat",
    "JointModel",
    "JointSolution",
    "Parameter",
    "StarPrior",
    "Transmission",
    "ZeroPoint",
    "prepare_joint",
    "read_joint_solution",
    "solve_joint",
    "solve_prepared",
    "solve_survey",
    "write_joint_solution",
    "xp_prior",
]
