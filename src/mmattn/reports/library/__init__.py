"""A predicted library in a browser: looked at, and checked."""
