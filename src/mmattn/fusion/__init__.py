"""Who reads whom: two token streams to one result, by a strategy and an attention. See docs/fusion.md."""
