"""The Lightning module, and when it validates and stops."""
