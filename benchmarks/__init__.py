"""One command a figure: `python -m benchmarks.NAME`."""
