"""Opening files that anybody may have made: which drivers, addresses, sizes and other files they may use.

``opening`` opens rasters, ``untrusted`` guards arrays, ``remote`` and ``addresses`` guard URLs.
"""
