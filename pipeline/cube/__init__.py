"""The cube in its store: laid out once, written block by block, finished, verified.

record: ``Cube``, its plan and status, ``open_cube`` · write: ``create_cube``, ``write_block`` · layout: its
metadata in memory · arrays: what is opened is the plan's · shards, ledger: what is written and what is done ·
lease: who may write · statistics, reduce, overviews, finish: the end of a run · verify: every byte against
its checksum · attempts: blocks that failed.
"""
