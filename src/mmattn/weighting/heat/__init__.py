"""Which tokens a score depends on or attends to, and whether such a heat map is right about the model."""
