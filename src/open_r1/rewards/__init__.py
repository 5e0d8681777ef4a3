"""Rewards: a completion and its record become a number."""
