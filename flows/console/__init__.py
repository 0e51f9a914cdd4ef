"""Output in the terminal, and maps of plans.

console: progress, tables, messages · describe: cubes and models as tables · plan_map: blocks as GeoJSON.
"""
