"""Report runs: journal, metrics, pings, the state of a job, plans and progress as text."""
