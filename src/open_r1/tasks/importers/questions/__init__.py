"""Readers of conversations, questions with answers, and clicks. (torch-free)"""
