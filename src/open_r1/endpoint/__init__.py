"""An OpenAI-compatible endpoint: its client, a cache of its answers on disk, and batches of rows sent in parallel."""
