"""The cube in its store: laid out once, written block by block, finished, verified.

record: ``Cube``, ``create_cube``, ``write_block``, ``open_cube`` · layout: arrays and attributes · shards,
ledger: what is written and what is done · lease: who may write · statistics, reduce, overviews, finish: the
end of a run · verify: every byte against its checksum · attempts: blocks that failed.
"""
