"""Forward passes that compute log-probs: packed groups with shared prefixes, or padded rows."""
