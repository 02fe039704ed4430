"""What a library of media holds, and what is wrong with it."""
