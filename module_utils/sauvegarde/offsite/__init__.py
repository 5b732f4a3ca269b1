"""Copies of archives in restic repositories, and the credentials that open them."""
