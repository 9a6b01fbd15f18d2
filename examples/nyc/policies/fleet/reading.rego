# What planes a carrier flies is its own business: partners do not read the fleet.
package mesh.domain.fleet.reading

import rego.v1

default allow := true

allow := false if "partner" in input.principal.roles
