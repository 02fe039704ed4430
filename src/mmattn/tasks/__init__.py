"""From fused streams to losses and predictions: tags and captions. See docs/tagging.md and docs/captioning.md."""
