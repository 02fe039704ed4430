"""One HTML page: table, charts, clips."""
