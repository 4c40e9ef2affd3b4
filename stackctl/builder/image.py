"""The state of a stage between two steps: an image configuration and the layers below it; pure."""

from collections.abc import Mapping, Sequence
from dataclasses import field, replace

from stackctl.contracts.state import HistoryEntry, ImageConfig, ImageRecord
from stackctl.contracts.storage import PackedLayer
from stackctl.engine.image_config import (
    ImageDocument,
    config_tree,
    document_bytes,
    document_tree,
    parse_document,
)
from stackctl.frozen import frozen
from stackctl.oci.descriptor import OCI_LAYER, Descriptor
from stackctl.oci.digest import chain_ids
from stackctl.oci.platform import Platform
from stackctl.values import Json

DEFAULT_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


@frozen
class State:
    """An image being made. ``layers`` are chain IDs and ``blobs`` what they were unpacked from, lowest first.

    ``args`` are the build arguments in scope; they are no part of the image. ``parent`` is the ID of the FROM image.
    """

    document: ImageDocument
    layers: tuple[str, ...] = ()
    blobs: tuple[Descriptor, ...] = ()
    args: Mapping[str, str] = field(default_factory=dict)
    parent: str = ""

    @property
    def config(self) -> ImageConfig:
        return self.document.config


def scratch(platform: Platform) -> State:
    """Return the state of FROM scratch."""
    return State(
        document=_with_path(
            ImageDocument(
                architecture=platform.architecture,
                variant=platform.variant,
                os=platform.os,
                config=ImageConfig(working_dir="/"),
            )
        )
    )


def of_record(record: ImageRecord, document: ImageDocument, blobs: Sequence[Descriptor]) -> State:
    """Return the state that FROM an image starts with."""
    return State(
        # What the base says of itself is not said of what is made from it.
        document=_with_path(replace(document, comment="")),
        layers=record.layers,
        blobs=tuple(blobs),
        parent=record.id,
    )


def of_layout(document: ImageDocument, blobs: Sequence[Descriptor]) -> State:
    """Return the state that FROM an image starts with which has no record here."""
    layers = tuple(chain_ids(document.diff_ids))
    return State(document=_with_path(document), layers=layers, blobs=tuple(blobs))


def _with_path(document: ImageDocument) -> ImageDocument:
    """Give a stage the default PATH where its base has none, as Docker does: ENV PATH=/x:$PATH relies on it."""
    config = document.config
    if any(entry.startswith("PATH=") for entry in config.env):
        return document
    return replace(document, config=replace(config, env=(f"PATH={DEFAULT_PATH}", *config.env)))


def after_step(
    state: State,
    *,
    config: ImageConfig,
    created: str,
    created_by: str,
    layer: PackedLayer | None = None,
    author: str = "",
) -> State:
    """Return the state one step further, with its line of history."""
    document = state.document
    entry = HistoryEntry(
        created=created,
        created_by=created_by,
        author=author or document.author,
        empty_layer=layer is None,
    )
    document = replace(
        document,
        config=config,
        created=created,
        author=author or document.author,
        history=(*document.history, entry),
        diff_ids=(*document.diff_ids, layer.diff_id) if layer else document.diff_ids,
    )
    return replace(
        state,
        document=document,
        layers=(*state.layers, layer.chain_id) if layer else state.layers,
        blobs=(*state.blobs, layer.blob) if layer else state.blobs,
    )


def encode(state: State) -> bytes:
    """Return the configuration's bytes; the same state always gives the same."""
    return document_bytes(document_tree(state.document))


def decode_cached(data: bytes, before: State) -> State:
    """Return the state that a cached step led to from ``before``.

    Raises ValueError when the step stood on other layers, InvalidInputError when the bytes are damaged.
    """
    document = parse_document(data)
    kept = before.document.diff_ids
    if document.diff_ids[: len(kept)] != kept:
        raise ValueError("the cached step has other layers below it")
    fresh = tuple(
        Descriptor(media_type=OCI_LAYER, digest=diff_id)
        for diff_id in document.diff_ids[len(kept) :]
    )
    return replace(
        before,
        document=document,
        layers=chain_ids(document.diff_ids),
        blobs=(*before.blobs, *fresh),
    )


def identity(state: State) -> list[Json]:
    """Return what a following step's result depends on: files, configuration and platform, but no times."""
    document = state.document
    return [
        list(state.layers),
        config_tree(document.config),
        [document.os, document.architecture, document.variant, document.author],
    ]
