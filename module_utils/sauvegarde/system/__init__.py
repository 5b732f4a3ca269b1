"""Use the host: child processes, locks, other OS users, folders, the engine's own installation."""
