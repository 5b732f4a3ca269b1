"""What a run tells: journal, metrics, pings, the state of a job, and texts for people."""
