"""Tags from your own list, by models that compare text with pictures and sounds."""
