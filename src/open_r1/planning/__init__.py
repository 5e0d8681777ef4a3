"""Memory of a run from the model's configuration: `dims` reads it, `memory` adds up, `propose` searches flags that fit."""
