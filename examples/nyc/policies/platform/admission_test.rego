package mesh.platform.admission_test

import rego.v1

import data.mesh.platform.admission

# A product that breaks no rule.
good := {
	"contract": {"team": {"members": [{"username": "ops-admin", "role": "owner"}]}},
	"columns": [column("carrier", {}), column("tailnum", {"classification": "personal", "custom": {"mask": "sha-256-global"}})],
	"quality": [{"path": "/schema/0/quality/0", "definition": {"metric": "rowCount", "mustBeGreaterThan": 0}}],
	"sla": {"latency": [{"value": 1, "unit": "h"}], "retention": [{"value": 90, "unit": "d", "path": "/slaProperties/1"}]},
	"tags": ["raw"],
	"custom": {"encryptionAtRest": "volume"},
}

column(name, more) := inside(name, sprintf("/schema/0/properties/%s", [name]), more)

# A column, or what is inside the one at `top`.
inside(name, top, more) := object.union(
	{
		"name": name, "path": sprintf("/schema/0/properties/%s", [name]), "top": top, "logicalType": "string",
		"tags": [], "custom": {}, "definition": {},
	},
	more,
)

with_columns(columns) := object.union(object.remove(good, ["columns"]), {"columns": columns})

retained(value, unit) := object.union(
	object.remove(good, ["sla"]),
	{"sla": {"latency": good.sla.latency, "retention": [{"value": value, "unit": unit, "path": "/slaProperties/1"}]}},
)

# The rules that refuse a product.
refusals(product) := {denial.rule | some denial in admission.deny with input as product}

test_a_good_product_is_admitted if refusals(good) == set()

test_somebody_owns_it if {
	refusals(object.union(good, {"contract": {"team": {"members": [{"username": "x", "role": "reader"}]}}})) == {"owner"}
	refusals(object.union(object.remove(good, ["contract"]), {"contract": {}})) == {"owner"}
	refusals(object.union(object.remove(good, ["contract"]), {"contract": {"team": [{"username": "x", "role": "Owner"}]}})) == set()
	refusals(object.union(object.remove(good, ["contract"]), {"contract": {"team": [{"username": "x", "role": "Data Product Owner"}]}})) == set()
	refusals(object.union(object.remove(good, ["contract"]), {"contract": {"team": [{"username": "x", "role": "owner", "dateOut": "2020-01-01"}]}})) == {"owner"}
}

test_something_checks_it if {
	refusals(object.union(good, {"quality": []})) == {"quality-check"}
	refusals(object.union(good, {"quality": [{"definition": {"type": "text"}}]})) == {"quality-check"}
}

test_it_promises_something if {
	refusals(object.union(object.remove(good, ["sla", "tags"]), {"sla": {}, "tags": []})) == {"sla"}
	refusals(object.union(object.remove(good, ["sla", "tags"]), {"sla": {"latency": [{"value": null}]}, "tags": []})) == {"sla"}
	refusals(object.union(object.remove(good, ["sla", "tags"]), {"sla": {"availability": [{"value": 99.9}]}, "tags": []})) == set()
}

test_classified_columns_carry_a_mask if {
	refusals(with_columns([column("pilot", {"classification": "PII"})])) == {"mask"}
	refusals(with_columns([column("pilot", {"tags": ["personal"]})])) == {"mask"}
	every word in ["Personal data", "personally identifiable", "gdpr-relevant", "sensitive_personal", "PHI"] {
		refusals(with_columns([column("pilot", {"classification": word})])) == {"mask"}
	}
	every word in ["public", "non-personal", "no PII", "impersonal", "restricted", "insensitive"] {
		refusals(with_columns([column("pilot", {"classification": word})])) == set()
	}
}

test_what_is_personal_inside_a_column_is_masked_with_it if {
	street := inside("home.email", "/schema/0/properties/home", {})
	refusals(with_columns([column("home", {"logicalType": "object"}), street])) == {"mask"}
	whole := {"logicalType": "object", "custom": {"mask": "replace-with-null"}}
	refusals(with_columns([column("home", whole), street])) == set()
	alone := inside("home.email", "/schema/0/properties/home", {"custom": {"mask": "sha-256-global"}})
	refusals(with_columns([column("home", {"logicalType": "object"}), alone])) == {"mask", "mask-place"}
}

test_a_mask_fits_its_column if {
	every pair in [
		["string", "sha-256-global"], ["integer", "sha-256-global"], ["string", "show-last-4"],
		["date", "truncate-to-year"], ["object", "replace-with-null"], ["number", "mask-to-fixed-value"],
	] {
		refusals(with_columns([column("x", {"logicalType": pair[0], "custom": {"mask": pair[1]}})])) == set()
	}
	every pair in [["number", "sha-256-global"], ["integer", "show-first-4"], ["string", "truncate-to-month"], ["map", "mask-to-fixed-value"]] {
		refusals(with_columns([column("x", {"logicalType": pair[0], "custom": {"mask": pair[1]}})])) == {"fitting-mask"}
	}
	required := {"custom": {"mask": "replace-with-null"}, "definition": {"required": true}}
	refusals(with_columns([column("x", required)])) == {"fitting-mask"}
}

test_columns_named_as_personal_carry_a_mask if {
	every name in [
		"email", "e_mail", "contact_email", "home.phone", "Last_Name", "birthdate", "tail_number", "emailAddress",
		"phoneNumber", "telephone", "fullName", "dob", "passport_no", "SSN", "shippingAddress", "contact.emails",
	] {
		refusals(with_columns([column(name, {})])) == {"mask"}
	}
	every name in ["emails_sent", "phonetic", "name", "detail", "filename", "address", "mobility", "adobe", "card"] {
		refusals(with_columns([column(name, {})])) == set()
	}
}

test_a_mask_exists if {
	refusals(with_columns([column("email", {"custom": {"mask": "rot13"}})])) == {"known-mask"}
}

test_raw_data_does_not_stay if {
	refusals(retained(91, "d")) == {"raw-retention"}
	refusals(retained(1, "y")) == {"raw-retention"}
	refusals(retained("some", "d")) == {"raw-retention"}
	refusals(retained(90, "fortnights")) == {"raw-retention"}
	refusals(retained(12, "weeks")) == set()
	refusals(retained(3, "months")) == set()
	refusals(object.union(object.remove(good, ["sla"]), {"sla": {"latency": good.sla.latency}})) == {"raw-retention"}
	refusals(object.union(retained(10, "y"), {"tags": ["refined"]})) == set()
}

test_personal_data_says_how_it_is_encrypted if {
	refusals(object.union(object.remove(good, ["custom"]), {"custom": {}})) == {"encryption-at-rest"}
	refusals(object.union(with_columns([column("carrier", {})]), {"custom": {}})) == set()
}

test_every_denial_names_its_place_and_a_remedy if {
	denials := admission.deny with input as {"contract": {}, "columns": [column("email", {})], "quality": [], "sla": {}, "tags": ["raw"], "custom": {}}
	count(denials) == 6
	every denial in denials {
		startswith(denial.path, "/")
		denial.message != ""
		denial.remedy != ""
	}
}
