"""How fast it is: the model alone, and the pipeline around it.

model, pipeline: what is measured · table: how it is shown.
"""
