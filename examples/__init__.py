"""Small data of our own writing, and the demo that learns from it."""
