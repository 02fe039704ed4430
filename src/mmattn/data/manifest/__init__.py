"""The clips of a data set and their labels."""
