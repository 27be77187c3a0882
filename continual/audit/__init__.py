"""What a careful colleague would say of a drop before a step is trained on it."""
