"""Studies: a question that a paper asked, asked of an open model, with one figure that answers it.

A study measures; what the paper saw and what the answer means stands in a recipe.
"""
