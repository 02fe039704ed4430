"""What is known of one file: typed, as plain data, and as a notebook shows it."""
