"""Public datasets -> rows of this repository: one file per source, used by `local_scripts`. (torch-free)"""
