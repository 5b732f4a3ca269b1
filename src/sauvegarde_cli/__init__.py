"""Provide the controller's command line: bootstrap, test lab, tests and benchmarks."""
