"""Benchmarks: each stage against a peer and a measured limit, in the same run.

python -m benchmarks [--quick] [STAGE ...]
"""
