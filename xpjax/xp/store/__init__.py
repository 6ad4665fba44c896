"""The store: coefficients on disk, by position on the sky.

    format       how a file is laid out
    writer       files from sources, whole or not at all
    file         one file: opened, read and verified
    store        the files of a directory: opened together, and sources selected
    ingest       bulk files into a store, several at a time

`blocks` has the blocks that share a checksum, `sky` places on the sky, `ids` the ids that a user names.
"""
