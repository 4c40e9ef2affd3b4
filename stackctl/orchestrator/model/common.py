"""Words shared by the elements of a stack."""

from collections.abc import Mapping
from types import MappingProxyType

from stackctl.values import Json

Extensions = Mapping[str, Json]
Strings = Mapping[str, str]

NO_STRINGS: Strings = MappingProxyType({})
NO_EXTENSIONS: Extensions = MappingProxyType({})
