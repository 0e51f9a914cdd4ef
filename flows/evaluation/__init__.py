"""How good models are: protocols, rows, tables.

protocols: what is measured on what · evaluate: a protocol's rows · rows: names of methods · report: the
table.
"""
