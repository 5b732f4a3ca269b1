"""Run jobs: schedule, hooks, the pipeline of one run, and the kinds of job (`kinds/`, one file a kind)."""
