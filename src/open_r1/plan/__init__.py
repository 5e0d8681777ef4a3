"""Memory of a run from the configuration: `dims` reads it, `memory` adds up, `propose` searches flags that fit."""
