"""Ground: numbers, errors, records, products and batches; no files and no stars."""
