"""Processes that grade with a deadline and a memory limit."""
