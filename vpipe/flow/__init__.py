"""Optical flow: the recipe, how it is computed, how it is rounded for storage, how it is drawn."""
