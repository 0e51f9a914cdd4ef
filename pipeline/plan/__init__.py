"""What will be done, before a pixel is read: blocks, arrays, cost, digest.

plan: ``Plan`` · arrays: ``ArraySpec``, the table of a cube's arrays · counts: reflectance as they store
it · cost: ``Workload``, ``Estimate`` · layers, quality_layers: what a cube can hold beside the mean ·
shares: which parts of a flight line each scene has a share in.
"""
