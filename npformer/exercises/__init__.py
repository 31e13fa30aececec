"""Gradient-check exercises, and a grader that says which mistake was made."""
