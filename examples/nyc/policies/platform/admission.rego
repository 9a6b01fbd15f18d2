# What every contract must say before it is registered. A denial names the rule, the place in the contract, what is wrong
# and what to write instead.
package mesh.platform.admission

import rego.v1

deny contains {
	"rule": "owner",
	"path": "/team",
	"message": "nobody owns this product",
	"remedy": "add a member with `role: owner` to `team.members`",
} if {
	not has_owner
}

deny contains {
	"rule": "quality-check",
	"path": "/schema/0",
	"message": "the product has no quality check that can be evaluated",
	"remedy": "add a `quality` entry with a `metric`, such as `{metric: rowCount, mustBeGreaterThan: 0}`",
} if {
	not has_check
}

deny contains {
	"rule": "sla",
	"path": "/slaProperties",
	"message": "the product promises nothing about its service",
	"remedy": "add `slaProperties` with an entry such as `{property: latency, value: 1, unit: d}`",
} if {
	not has_sla
}

deny contains {
	"rule": "mask",
	"path": column.path,
	"message": sprintf("column `%s` is personal, but does not say how readers see it", [column.name]),
	"remedy": "add `customProperties: [{property: mask, value: sha-256-global}]` to the column, or another of Iceberg's mask actions",
} if {
	some column in personal_columns
	column.path == column.top
	not column.custom.mask
}

# Readers see a whole column masked or bare: what is personal inside one is masked with it.
deny contains {
	"rule": "mask",
	"path": column.path,
	"message": sprintf("`%s` is personal, but the column around it does not say how readers see it", [column.name]),
	"remedy": "make it a column of its own with a mask, or add `customProperties: [{property: mask, value: replace-with-null}]` to the column around it, which then may be null",
} if {
	some column in personal_columns
	column.path != column.top
	not masked(column.top)
}

deny contains {
	"rule": "mask-place",
	"path": column.path,
	"message": sprintf("`%s` asks for a mask inside a column, where none is applied", [column.name]),
	"remedy": "put the mask on the column around it, or make it a column of its own",
} if {
	some column in input.columns
	column.path != column.top
	column.custom.mask
}

deny contains {
	"rule": "known-mask",
	"path": column.path,
	"message": sprintf("column `%s` asks for the mask `%v`, which does not exist", [column.name, column.custom.mask]),
	"remedy": sprintf("use one of %s", [concat(", ", masks)]),
} if {
	some column in input.columns
	column.custom.mask
	not column.custom.mask in masks
}

deny contains {
	"rule": "fitting-mask",
	"path": column.path,
	"message": sprintf("the mask `%s` does not fit column `%s`: nobody could read it", [column.custom.mask, column.name]),
	"remedy": sprintf("use one that does: %s", [concat(", ", [mask | some mask in masks; fits(column, mask)])]),
} if {
	some column in input.columns
	column.path == column.top
	column.custom.mask in masks
	not fits(column, column.custom.mask)
}

deny contains {
	"rule": "raw-retention",
	"path": "/slaProperties",
	"message": "raw data is kept at most 90 days, and this product does not say how long it keeps its own",
	"remedy": "add `{property: retention, value: 90, unit: d}` to `slaProperties`",
} if {
	is_raw
	not input.sla.retention
}

deny contains {
	"rule": "raw-retention",
	"path": retention.path,
	"message": sprintf("raw data is kept at most 90 days, not %v %s", [retention.value, unit_of(retention)]),
	"remedy": "write `value: 90, unit: d` or less, or take the tag `raw` off what is not raw",
} if {
	is_raw
	some retention in input.sla.retention
	not keeps_at_most_90_days(retention)
}

deny contains {
	"rule": "encryption-at-rest",
	"path": "/customProperties",
	"message": "the product has personal columns, but does not say how they are encrypted at rest",
	"remedy": "add `{property: encryptionAtRest, value: volume}` to the contract's `customProperties`, or what else is true",
} if {
	count(personal_columns) > 0
	not input.custom.encryptionAtRest
}

has_owner if {
	some member in input.contract.team.members
	owns(member)
}

# Before ODCS 3.1, `team` is the list of its members.
has_owner if {
	is_array(input.contract.team)
	some member in input.contract.team
	owns(member)
}

# "owner", "Data Product Owner"; who has left is none.
owns(member) if {
	contains(lower(member.role), "owner")
	member.username != ""
	not member.dateOut
}

has_sla if {
	some promises in input.sla
	some promise in promises
	promise.value != null
}

has_check if {
	some rule in input.quality
	rule.definition.metric
}

has_check if {
	some rule in input.quality
	rule.definition.type in {"sql", "library"}
}

is_raw if {
	some tag in input.tags
	lower(tag) == "raw"
}

masked(path) if {
	some column in input.columns
	column.path == path
	column.custom.mask
}

personal_columns contains column if {
	some column in input.columns
	some word in array.concat([object.get(column, "classification", "")], column.tags)
	is_personal(lower(word))
}

personal_columns contains column if {
	some column in input.columns
	regex.match(personal_name, snake(column.name))
}

# "personal", "PII", "Personal data"; not "non-personal".
is_personal(word) if {
	regex.match(`(^|[^a-z])(personal(ly)?|pii|phi|spi|gdpr|sensitive)([^a-z]|$)`, word)
	not regex.match(`(^|[^a-z])(no|non|not)[^a-z]*(personal|pii|phi|spi|gdpr|sensitive)`, word)
}

# `phoneNumber` is `phone_number`.
snake(name) := lower(regex.replace(name, `([a-z0-9])([A-Z])`, "${1}_${2}"))

personal_name := concat("", [
	`(^|[._ -])(`,
	concat("|", [
		`e_?mails?`, `e_?mail_addr(ess)?`,
		`(tele|cell)?_?phones?`, `(tele|cell)?_?phone_(no|nr|num|number)`, `mobile`, `mobile_(no|nr|number|phone)`,
		`ssn`, `social_security(_(no|nr|number))?`, `national_id`, `tax_id`, `passport`, `passport_(no|nr|number)`,
		`iban`, `(credit_)?card_(no|nr|number)`,
		`birth_?(date|day)`, `date_of_birth`, `dob`,
		`(first|last|middle|given|family|maiden|full|sur)_?name`,
		`(home|street|postal|mailing|billing|shipping)_?address`, `ip_?address`,
		`licen[cs]e_plate`, `tail_?num(ber)?`,
	]),
	`)$`,
])

# There is no one value of an object, a list or a map.
fits(column, mask) if {
	mask == "mask-to-fixed-value"
	not column.logicalType in {"object", "array", "map"}
}

fits(column, mask) if {
	mask == "replace-with-null"
	not column.definition.required
}

fits(column, mask) if {
	column.logicalType == "string"
	mask in {"mask-alphanum", "show-first-4", "show-last-4"}
}

fits(column, mask) if {
	column.logicalType in {"date", "timestamp"}
	mask in {"truncate-to-year", "truncate-to-month"}
}

fits(column, mask) if {
	column.logicalType in {"string", "integer"}
	mask in {"sha-256-global", "sha-256-query-local"}
}

masks := [
	"mask-alphanum",
	"mask-to-fixed-value",
	"replace-with-null",
	"show-first-4",
	"show-last-4",
	"truncate-to-year",
	"truncate-to-month",
	"sha-256-global",
	"sha-256-query-local",
]

keeps_at_most_90_days(retention) if {
	is_number(retention.value)
	retention.value * days[lower(retention.unit)] <= 90
}

unit_of(retention) := object.get(retention, "unit", "(without a unit)")

days := {
	"s": 1 / 86400, "second": 1 / 86400, "seconds": 1 / 86400,
	"min": 1 / 1440, "minute": 1 / 1440, "minutes": 1 / 1440,
	"h": 1 / 24, "hour": 1 / 24, "hours": 1 / 24,
	"d": 1, "day": 1, "days": 1,
	"w": 7, "week": 7, "weeks": 7,
	"mo": 30, "month": 30, "months": 30,
	"y": 365, "yr": 365, "year": 365, "years": 365,
}
