# Partners see the flights of their own carrier.
package mesh.domain.operations.reading

import rego.v1

default allow := true

# A partner without a carrier would otherwise see every carrier's rows.
allow := false if {
	is_partner
	not carrier
}

rowFilters contains {"expression": sprintf("carrier = '%s'", [carrier])} if {
	is_partner
	input.product.name == "operations.flights"
}

# No other product of this domain is for partners.
allow := false if {
	is_partner
	input.product.name != "operations.flights"
}

is_partner if "partner" in input.principal.roles

# Two characters of IATA's alphabet: nothing in it can end the SQL text that it is put into.
carrier := code if {
	code := input.principal.attributes.carrier
	regex.match(`^[0-9A-Z]{2}$`, code)
}
