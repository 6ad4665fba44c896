"""Linear corrections: training on pairs, domain, evidence."""
