"""Files of XP coefficients and of sampled spectra into memory."""
