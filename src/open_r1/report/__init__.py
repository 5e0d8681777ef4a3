"""Pictures and pages of a run, made from the files it leaves."""
