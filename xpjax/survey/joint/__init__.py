"""Stars, exposures and transmission in one least-squares solution.

`__all__` is public. What else is imported here serves other rooms of xpjax, and may change.
"""

from xpjax.survey.joint.config import build_joint, read_joint
from xpjax.survey.joint.solution import JointSolution, write_joint
from xpjax.survey.joint.solve import JointModel, solve_joint
from xpjax.survey.joint.star_prior import xp_prior
from xpjax.survey.joint.terms import Color, Constraint, ZeroPoint
from xpjax.survey.joint.transmission import Parameter, Transmission

__all__ = [
    "Color",
    "Constraint",
    "JointModel",
    "JointSolution",
    "Parameter",
    "Transmission",
    "ZeroPoint",
    "build_joint",
    "read_joint",
    "solve_joint",
    "write_joint",
    "xp_prior",
]
