"""A job: the files of a library, listed once and processed in shards, each file exactly once."""
