"""Fill, swap in and roll back the targets of restores and migrations: a database on a server, or an SQLite file."""
