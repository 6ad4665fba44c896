"""What a calibration left: numbers, figures, a page."""
