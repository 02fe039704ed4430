"""The tables of `mmattn show fusion` and `mmattn show fusion attention`."""
