"""Work over a whole library of files: listed once, done in shards, each file answered exactly once."""
