"""Dump, verify, restore, compare and prune: the engine."""

VERSION = "0.1.0"
