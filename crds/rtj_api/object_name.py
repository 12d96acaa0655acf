"""Names of Kubernetes objects, as several parts of the contract ask for them."""

from typing import Annotated

from pydantic import Field

# A DNS-1123 subdomain, the rule for names of ConfigMaps and claims.
ObjectName = Annotated[
    str,
    Field(
        min_length=1,
        max_length=253,
        pattern=r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$",
    ),
]
