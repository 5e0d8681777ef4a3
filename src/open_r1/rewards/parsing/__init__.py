"""From the text of a completion to an answer."""
