"""Files: knows records and constants, runs no kernel."""
