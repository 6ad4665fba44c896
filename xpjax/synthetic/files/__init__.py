"""Transmission curves in the files of many programs: sheets of columns, what their headers say, and curves of them."""
