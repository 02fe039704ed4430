"""What writes sentences about spans of a file: which spans, who writes, and what is made of the sentences."""
