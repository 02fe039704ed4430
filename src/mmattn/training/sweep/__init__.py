"""Sweeps of many runs: grids, searches, budgets."""
