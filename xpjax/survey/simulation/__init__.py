"""Simulated surveys: `survey` joins what the other modules make, `files` writes it."""
