"""One clip: which tokens a tag depends on."""
