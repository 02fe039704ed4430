"""Many runs as one: grids, searches, budgets."""
