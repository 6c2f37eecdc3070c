"""From snippet scores to moments: candidates, refinement, scoring, suppression. Numpy only."""
