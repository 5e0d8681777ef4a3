"""Reports, curves and model cards of a run, made from the files in its folder."""
