package mesh.domain.fleet.reading_test

import rego.v1

import data.mesh.domain.fleet.reading

asked(roles) := {"principal": {"roles": roles}, "product": {"name": "fleet.planes", "domain": "fleet"}}

test_partners_do_not_read_the_fleet if {
	not reading.allow with input as asked(["partner"])
	not reading.allow with input as asked(["analyst", "partner"])
}

test_analysts_do if reading.allow with input as asked(["analyst"])
