"""How fast it is: the model alone, and the pipeline around it.

model, benchmark_pipeline: what is measured · benchmark_table: how it is shown.
"""
