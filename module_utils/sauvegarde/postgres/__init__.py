"""Use a PostgreSQL server and its databases: connections, properties, fingerprints, names. No jobs, no runs."""
