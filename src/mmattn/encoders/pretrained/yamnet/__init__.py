"""YAMNet, and its weights as packages hold them."""
