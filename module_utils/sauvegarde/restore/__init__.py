"""Restore any archive or dump into a side database, prove it, swap it in, and roll it back."""
