"""Stars, exposures and transmission in one least-squares solution."""
