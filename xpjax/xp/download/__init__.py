"""Spectra and columns of gaia_source from the archive, over the network.

What is wanted passes through, from the outside in:

    job          `fetch`: ids to batches, batches to parts on disk, parts to one table or file
    query        the archive's tables (TAP)
    spectra      the archive's spectra (DataLink), and what its answers mean
    cache        parts on disk, by id
    request      one request, asked again until it is answered
"""
