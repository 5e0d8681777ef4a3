"""The videos of a row: their fields, files, sampled frames, and what processors take. (torch-free)"""
