"""How a file is gone through to answer one request: in order, by a plan, on a GPU."""
