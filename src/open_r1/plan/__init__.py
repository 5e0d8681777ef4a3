"""The memory planner: `dims` reads a model's sizes, `memory` adds up bytes, `propose` searches flags that fit."""
