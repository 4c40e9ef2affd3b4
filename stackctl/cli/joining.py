"""Plans made and carried out: what the commands of a stack's life share."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from stackctl.cli.planned import DownRequest, OneOff, UpRequest
from stackctl.errors import InvalidInputError, NotFoundError
from stackctl.orchestrator.apply.observe import observe
from stackctl.orchestrator.model.stack import Stack
from stackctl.orchestrator.planning.observed import Observed
from stackctl.orchestrator.planning.options import DestroyOptions, Options
from stackctl.orchestrator.planning.plan import Plan

if TYPE_CHECKING:
    from stackctl.cli.context import Session
    from stackctl.orchestrator.apply.contract import Engine
