# What anybody sees of any product. A domain's own policy may take away from this, never add.
package mesh.platform.reading

import rego.v1

default allow := false

# The owners: a domain's admins.
allow if owns

# Running the mesh, analysing, or being a partner is a reason to read; what of it, the masks and the domains say.
allow if {
	some role in input.principal.roles
	role in {"admin", "analyst", "partner"}
}

# Personal columns as their contract says; only the product's owners see them bare.
columnMasks[column.name] := {"action": column.custom.mask} if {
	some column in input.product.columns
	column.custom.mask
	not owns
}

owns if input.product.domain in input.principal.adminOf
