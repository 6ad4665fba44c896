"""The store: coefficients on disk, by position on the sky."""
