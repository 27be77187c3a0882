"""How it learns: examples, replay, EWC, the recipe, evaluation, the gate."""
