"""Where objects are kept: folders and buckets, one interface.

base: ``Storage``, ``open_storage`` · objects: buckets of S3 and Google Cloud Storage.
"""
