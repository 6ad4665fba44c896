"""Constants of robust statistics."""

from xpjax.core.constants import MAD as MAD

HUBER, TUKEY = 1.345, 4.685
"""Tuning constants [sigma]: 95 % efficient for normal errors."""
SCALE = 1.547645
"""Of Tukey's rho in the S-estimate of scale: half of the stars may be wrong."""
LEAST_VARIANCE = 1e-12
"""Total variance [mag^2] below which a star is not trusted more: 1 micromagnitude."""
