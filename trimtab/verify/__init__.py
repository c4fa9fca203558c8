"""Verification: is a converted candidate as good as the original, is it faster, and does the budget say yes.

Measure (`accuracy`, `parity`, `latency`), collect (`evidence`), decide (`gate`), show (`report`, `pareto`,
`confusion`). Import from the modules: nothing is imported here, so that a measurement does not load matplotlib.
"""
