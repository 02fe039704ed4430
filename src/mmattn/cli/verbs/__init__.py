"""The verbs of the command line, one file for each family of verbs. Heavy imports happen inside their functions."""
