"""Reads JSONL files and hub datasets as `Record`s, and makes pictures and chat messages of them."""
