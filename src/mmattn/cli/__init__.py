"""The command line. Heavy imports happen inside a verb."""
