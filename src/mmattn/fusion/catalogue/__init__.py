"""What `mmattn show` says of strategies, and of strategies with attentions."""
