"""Made inputs, and the command line in this process."""

from pathlib import Path

import numpy as np
from click.testing import CliRunner, Result

from xpjax.cli import main
from xpjax.core.release import DR3
from xpjax.xp.sources import SourceTable, XPCoefficients

N = 6


def xp(*arguments: object) -> Result:
    """`xpjax` with these arguments, in this process; what it lets through is raised."""
    result = CliRunner().invoke(main, [str(argument) for argument in arguments])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result


def made(correlations: bool = True, first: int = 1) -> SourceTable:
    """Smooth red spectra, positive in every band, with errors of a percent."""
    rng = np.random.default_rng(first)
    value = 1e-2 * rng.normal(size=(N, DR3.n_basis_total))
    for rows in DR3.slices:
        value[:, rows.start] = 100 * (1 + rng.random(N))
    return SourceTable(
        np.arange(first, first + N) << 40,
        XPCoefficients(
            value,
            np.full_like(value, 1e-2),
            rng.uniform(-0.01, 0.01, (N, DR3.n_pair_total)) if correlations else None,
            np.full((N, 2), 20),
        ),
        np.zeros(N, np.uint32),
        {"phot_g_mean_mag": rng.uniform(5, 15, N), "designation": np.array([f"Gaia {i}" for i in range(N)])},
    )


def files(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())
