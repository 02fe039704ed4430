"""Small networks that train from scratch."""
