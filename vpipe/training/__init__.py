"""Training: recipes, data made on the fly or loaded from videos, and the loop."""
