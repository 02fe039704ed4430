"""How the times of tokens enter attention, apart from its pattern."""
