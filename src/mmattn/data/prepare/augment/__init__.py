"""What training varies."""
