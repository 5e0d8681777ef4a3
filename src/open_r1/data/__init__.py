"""Rows: JSONL lines and hub datasets become `Record`s, pictures and chat messages."""
