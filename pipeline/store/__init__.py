"""Stores of objects: folders and buckets with one interface.

opening: ``open_storage`` · base: ``Storage`` · local: a folder · objects: buckets of S3 and Google Cloud
Storage · zarr_files: a folder for zarr.
"""
