"""How much sound and how much picture: measures by attention, by removal and in training. See docs/weighting.md."""
