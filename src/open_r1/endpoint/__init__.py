"""Asking an OpenAI-compatible endpoint: the client, the journal of what was paid for, and rows in parallel."""
