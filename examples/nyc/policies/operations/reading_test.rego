package mesh.domain.operations.reading_test

import rego.v1

import data.mesh.domain.operations.reading

asked(roles, attributes, product) := {
	"principal": {"name": "somebody", "roles": roles, "adminOf": [], "attributes": attributes},
	"product": {"name": product, "domain": "operations", "columns": [{"name": "carrier", "custom": {}}]},
}

test_a_partner_sees_its_own_carrier if {
	reading.allow with input as asked(["partner"], {"carrier": "UA"}, "operations.flights")
	filters := reading.rowFilters with input as asked(["partner"], {"carrier": "UA"}, "operations.flights")
	filters == {{"expression": "carrier = 'UA'"}}
}

test_a_partner_without_a_carrier_sees_nothing if {
	not reading.allow with input as asked(["partner"], {}, "operations.flights")
}

test_a_carrier_cannot_smuggle_sql if {
	every carrier in ["UA' OR '1'='1", "ua", "", "UAL"] {
		not reading.allow with input as asked(["partner"], {"carrier": carrier}, "operations.flights")
	}
}

test_other_products_are_not_for_partners if {
	not reading.allow with input as asked(["partner"], {"carrier": "UA"}, "operations.crews")
}

test_others_see_every_carrier if {
	reading.allow with input as asked(["analyst"], {}, "operations.flights")
	filters := reading.rowFilters with input as asked(["analyst"], {}, "operations.flights")
	filters == set()
}

test_an_analyst_who_is_also_a_partner_is_a_partner if {
	filters := reading.rowFilters with input as asked(["analyst", "partner"], {"carrier": "DL"}, "operations.flights")
	filters == {{"expression": "carrier = 'DL'"}}
}
