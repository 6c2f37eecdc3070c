"""Published checkpoints in, weight files out: reading, recognising the layout, mapping every key."""
