"""What will be done, before a pixel is read: blocks, layers, cost, digest.

plan: ``Plan``, ``Estimate``, ``choose_block`` · layers, quality_layers: what a cube can hold beside the
mean · shares: which parts of a flight line each scene has a share in.
"""
