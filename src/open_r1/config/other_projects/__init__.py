"""Names of flags in other projects, and what to type here in their place: a literal table for each project."""
