"""From video to scores: clip sampling, preprocessing, batched inference, fusion, snippet scores."""
