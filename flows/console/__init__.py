"""What is shown in a terminal.

console: progress, tables, messages · describe: a cube and the models · plan_map: blocks as a map.
"""
