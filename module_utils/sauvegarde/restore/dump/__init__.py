"""Read what pg_dump and pg_dumpall wrote, whatever it is wrapped in."""
