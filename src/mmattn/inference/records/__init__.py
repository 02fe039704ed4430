"""What is known of one file: as a typed result, as a JSON record, and as HTML for a notebook."""
