"""Restore any archive into a side database, prove it, swap it in, and back."""
