"""Checks of a run while it trains: metrics, finite numbers, agreement of rollouts and training, weight updates."""
