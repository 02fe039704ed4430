"""From scores to weights, other than by softmax."""
