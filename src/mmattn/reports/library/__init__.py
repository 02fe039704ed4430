"""Pages of a library: browsed, and checked."""
