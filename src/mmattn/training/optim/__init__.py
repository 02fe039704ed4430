"""How weights are trained: optimizer, averaging, freezing, balance between modalities and tasks."""
