"""Which process this is, what it holds, which cores it has. Needs no torch."""
