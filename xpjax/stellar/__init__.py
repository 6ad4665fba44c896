"""Stellar parameters: model grids, their interpolation, batched fits. Nothing is exported here."""
