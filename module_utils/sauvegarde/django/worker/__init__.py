"""The half that runs inside a site's virtual environment; `worker_main` starts it. Only it imports Django."""
