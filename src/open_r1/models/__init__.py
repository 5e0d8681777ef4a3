"""Models, processors and adapters, and the table of families."""
