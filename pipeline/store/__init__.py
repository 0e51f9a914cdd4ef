"""Where objects are kept: folders and buckets, one interface.

base: ``Storage`` · local: a folder · objects: buckets of S3 and
Google Cloud Storage · opening: ``open_storage``.
"""
