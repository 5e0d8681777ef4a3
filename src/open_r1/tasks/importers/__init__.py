"""Importers that make rows of public datasets, one file for each source; used by `local_scripts`. (torch-free)"""
