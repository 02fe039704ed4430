"""From manifests, folders and public data sets to batches; shards, features, checks. See docs/data.md."""
