"""The command line: read, compute, write. JAX, astropy and matplotlib wait until a command needs them.

Exit status: 0 done (bad rows are counted and flagged), 1 some units failed or a bug of xpjax, 2 wrong input or call.
Results go to files and standard output; progress, summaries and errors to standard error.
"""

from __future__ import annotations

import click

from xpjax.cli import catalogue, compute, dust, fetch, labels, lightcurve, mock, passband, show, store, survey, wiggles
from xpjax.cli.terminal import Group, offer_quiet, quiet_option

__all__ = ["main"]


@click.group(cls=Group, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.option("--debug", is_flag=True, help="Show the traceback of an error.")
@click.version_option(package_name="xpjax")
def main(debug: bool) -> None:
    """Gaia XP spectra on CPUs and GPUs: synthetic photometry and absolute spectra.

    \b
    Start here:
      xpjax demo
      xpjax fetch --ids stars.csv --output xp.parquet
      xpjax photometry XpContinuousMeanSpectrum.csv.gz --system JPLUS --output jplus.parquet
      xpjax spectra XP_CONTINUOUS_RAW.fits --output spectra.h5

    Exit status: 0 done, bad rows are counted and flagged in xp_status; 1 some units failed, or a bug of xpjax, of which
    a file to send is written; 2 wrong input or call; 130 interrupted.
    """


for command in (
    fetch.fetch,
    compute.photometry,
    compute.spectra,
    lightcurve.lightcurve,
    catalogue.catalogue,
    passband.passband,
    wiggles.wiggles,
    labels.labels,
    dust.ebv,
    store.store,
    survey.survey,
    mock.simulate,
    mock.demo,
    show.systems,
    show.info,
    show.plot,
):
    main.add_command(command)
offer_quiet(main)
main.params.append(quiet_option())
