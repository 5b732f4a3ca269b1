"""What a restore or a migration fills, swaps in and rolls back: a database on a server, or an SQLite file."""
