"""Does it learn? Runs of :mod:`benchmarks.suites`, resumable at any second, and the tables made of them."""
