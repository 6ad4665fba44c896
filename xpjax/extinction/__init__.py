"""Interstellar reddening: laws A(lambda)/A_V, the transmission of dust, and E(B-V) from maps.

`__all__` is public. What else is imported here serves other rooms of xpjax, and may change.
"""

from xpjax.extinction.laws import (
    AV_PER_SFD as AV_PER_SFD,
    LAWS,
    R_V as R_V,
    ccm89 as ccm89,
    check_law as check_law,
    extinction_curve,
    odonnell94 as odonnell94,
    transmission,
)
from xpjax.extinction.maps import MAPS as MAPS, SCALES as SCALES
from xpjax.extinction.reddening import Reddening, add_ebv, ebv

__all__ = ["LAWS", "Reddening", "add_ebv", "ebv", "extinction_curve", "transmission"]
