"""Official numbers: what a set of predictions is worth against annotations."""
