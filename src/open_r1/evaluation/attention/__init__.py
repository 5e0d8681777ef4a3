"""What each token of a completion looked at: rows of attention, and where image tokens lie on their pictures."""
