"""What every annotator builds on: the interface, the shared decode, tags with times, model folders."""
