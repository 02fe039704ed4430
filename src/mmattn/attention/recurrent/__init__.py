"""Recurrent networks behind the signature of attention."""
