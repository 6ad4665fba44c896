"""Zero-points, flat fields and nights, exposure by exposure."""
