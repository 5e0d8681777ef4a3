"""Parquet files and splits of `datasets` read as rows of JSON, with the pictures in their cells. (torch-free)"""
