"""The engine: everything that knows how to dump, verify, restore, compare and prune."""

VERSION = "0.1.0"
