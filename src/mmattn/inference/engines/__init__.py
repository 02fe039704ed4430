"""Who does the open shards of a predict job: processes here, or tasks of a cluster."""
