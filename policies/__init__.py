"""Ways to spend compute on one prompt: strategies, selectors, answers. Knows nothing of Ray or of engines."""
