"""Manifests, folders and public sets to batches: sampling, transforms, shards, features, checks. See docs/data.md."""
