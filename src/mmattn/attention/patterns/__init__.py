"""Which pairs of query and key an exact attention reads."""
