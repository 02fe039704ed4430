"""The passes over a file that answer one request: planned or sequential."""
