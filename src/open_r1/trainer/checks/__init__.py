"""What a run checks of itself while it trains."""
