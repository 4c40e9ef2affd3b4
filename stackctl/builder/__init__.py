"""Dockerfile to image.

In comes a request (``request``) with a context and a Dockerfile; out comes a stream of what the classic builder of
Docker would say, and an image. The path is parse → instructions → stages → steps, the first three pure. It may import
the engine's services and the contracts, never an adapter. RUN steps get a container straight from the runtime, without
a record, so that ``ps`` never shows one; they join the engine's networks as its own containers do. What is cached is
kept by content: a step's key leads to the configuration it made, and the engine's collection leaves its layers alone.
"""
