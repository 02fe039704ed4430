"""Every attention mechanism behind one signature, with exact modality mass. See docs/attention.md."""
