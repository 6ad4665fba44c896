"""Made inputs for every command."""

from pathlib import Path

import pytest

from tests.cli.helpers import made
from xpjax.io import catalogue


@pytest.fixture(scope="session")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of made inputs: sources.csv, .fits, .parquet, and bare.csv without correlations."""
    folder = tmp_path_factory.mktemp("inputs")
    for suffix in (".csv", ".csv.gz", ".fits", ".parquet"):
        catalogue.write(folder / f"sources{suffix}", made().catalogue())
    catalogue.write(folder / "bare.csv", made(correlations=False, first=50).catalogue())
    return folder
