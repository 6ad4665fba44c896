"""Files of XP coefficients and of sampled spectra into memory.

A file of coefficients passes through, from the outside in:

    archive      `read`: any input, or several, as one SourceTable
    loaders      what a file is: packed or not, text, AVRO or another table
    text         CSV and ECSV, whole or block by block
    formats      other tables, and AVRO, as columns
    layout       columns under the archive's names: ids, numbers, vectors
    assemble     columns as records: checked, and each row judged by itself

`spectra_files` reads sampled spectra, `gaia_source` what is joined to sources, `fetch` asks the archive itself.
"""
