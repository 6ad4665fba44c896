"""XP coefficients from the Gaia archive, by source ids or by an ADQL query, through astroquery (`xpjax[archive]`)."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from xpjax.core.errors import XpjaxError

if TYPE_CHECKING:
    from astropy.table import Table

SERVER = "https://gea.esac.esa.int/"
RELEASE = "Gaia DR3"


def fetch(
    wanted: str | Sequence[int | str], *, username: str | None = None, password: str | None = None, note: str = "xpjax"
) -> Table:
    """The XP_CONTINUOUS table of the sources with these ids, or of those that an ADQL query finds.

    A query must have a column source_id; it is sent with a comment that names who asks. Raises ValueError where the
    archive has no spectra of them, ImportError without astroquery; what astroquery raises passes through.
    """
    if not isinstance(wanted, str) and not len(wanted):
        raise XpjaxError("the list of source ids is empty; give at least one")
    try:
        from astroquery.gaia import GaiaClass
    except ImportError as error:
        raise ImportError("queries of the Gaia archive need astroquery: pip install 'xpjax[archive]'") from error
    gaia = GaiaClass(gaia_tap_server=SERVER, gaia_data_server=SERVER)
    if username and password:
        gaia.login(user=username, password=password)
    if isinstance(wanted, str):
        wanted = _ids(gaia.launch_job_async(_marked(wanted, note), dump_to_file=False).get_results())
    reply = gaia.load_data(
        ids=wanted,
        format="csv",
        data_release=RELEASE,
        data_structure="DATAMODEL_GAIA",
        retrieval_type="XP_CONTINUOUS",
        avoid_datatype_check=True,
    )
    tables = [tables for name, tables in reply.items() if "continuous" in name.lower() and len(tables)]
    if not tables:
        raise XpjaxError(f"the Gaia archive has no continuous BP/RP spectra of these {len(wanted)} sources")
    return tables[0][0]


def _ids(found: Table) -> Any:
    """The column of source ids of a query's result, however it is spelled. Raises ValueError."""
    for name in found.colnames:
        if re.sub(r"[-_ ]", "", name.lower()) in ("sourceid", "srcid"):
            return found[name]
    raise XpjaxError(f"the query found the columns {found.colnames}; add source_id to what it selects")


def _marked(query: str, note: str) -> str:
    """The query without comments, and with one after `select`."""
    plain = re.sub(r"/\*.*?\*/", "", re.sub(r"--.*$", "", query, flags=re.MULTILINE), flags=re.DOTALL)
    return re.sub("select", f"select --{note}\n", plain, count=1, flags=re.IGNORECASE)
