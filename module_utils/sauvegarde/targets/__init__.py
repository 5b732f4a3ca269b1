"""What a restore or a migration fills and swaps: a database on a server, an SQLite file."""
