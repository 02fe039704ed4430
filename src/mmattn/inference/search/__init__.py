"""What was found in a library, found again: every text with its times in an index, and questions to it."""
