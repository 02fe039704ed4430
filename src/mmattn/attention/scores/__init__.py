"""How alike a query and a key are, other than by their dot product."""
