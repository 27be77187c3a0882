"""The serving engine beside its peers; `python -m benchmarks.serving` runs it, `__main__.py` says what it measures."""
