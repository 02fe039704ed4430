"""A decoded clip becomes arrays of fixed shape."""
