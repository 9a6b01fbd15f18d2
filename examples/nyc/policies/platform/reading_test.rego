package mesh.platform.reading_test

import rego.v1

import data.mesh.platform.reading

asked(roles, admin_of) := {
	"principal": {"name": "somebody", "roles": roles, "adminOf": admin_of, "attributes": {}},
	"product": {
		"name": "operations.flights",
		"domain": "operations",
		"columns": [
			{"name": "carrier", "custom": {}},
			{"name": "tailnum", "custom": {"mask": "sha-256-global"}},
		],
	},
}

test_strangers_see_nothing if {
	not reading.allow with input as asked([], [])
	not reading.allow with input as asked(["intern"], ["weather"])
}

test_a_known_role_reads if {
	every role in ["admin", "analyst", "partner"] {
		reading.allow with input as asked([role], [])
	}
}

test_readers_see_personal_columns_masked if {
	masks := reading.columnMasks with input as asked(["analyst"], [])
	masks == {"tailnum": {"action": "sha-256-global"}}
}

test_running_the_mesh_is_no_reason_to_see_them_bare if {
	masks := reading.columnMasks with input as asked(["admin"], ["weather"])
	masks == {"tailnum": {"action": "sha-256-global"}}
}

test_owners_see_their_own if {
	reading.allow with input as asked(["domain-admin"], ["operations"])
	masks := reading.columnMasks with input as asked(["domain-admin"], ["operations"])
	masks == {}
}
