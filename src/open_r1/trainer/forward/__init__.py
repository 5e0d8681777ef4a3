"""Forward passes that give log-probs."""
