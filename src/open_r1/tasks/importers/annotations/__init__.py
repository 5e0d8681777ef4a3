"""Readers of annotation tools, the frames of their boxes, and rows of a task from annotated pictures. (torch-free)"""
