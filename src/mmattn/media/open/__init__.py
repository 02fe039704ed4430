"""Open an untrusted file, choose its streams, read its packets."""
