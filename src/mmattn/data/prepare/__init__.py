"""Turn a decoded clip into arrays of fixed shape."""
