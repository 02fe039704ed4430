"""The processes of a run: how they are started, joined, and agree."""
