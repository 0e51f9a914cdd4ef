"""The Prefect flows, and the server that runs them.

scene, flight_line, watch, train: files that Prefect loads by path; they hold only ``@flow`` and ``@task`` ·
stages: their tasks · parameters: what they take · serve, server: a server and a worker on this machine.
"""
