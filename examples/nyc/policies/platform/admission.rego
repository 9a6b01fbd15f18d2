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
	"rule": "latency",
	"path": "/slaProperties",
	"message": "the product does not promise how fresh it is",
	"remedy": "add an entry `{property: latency, value: 1, unit: d}` to `slaProperties`",
} if {
	not input.sla.latency
}

deny contains {
	"rule": "mask",
	"path": column.path,
	"message": sprintf("column `%s` is personal, but does not say how readers see it", [column.name]),
	"remedy": "add `customProperties: [{property: mask, value: sha-256-global}]` to the column, or another of Iceberg's mask actions",
} if {
	some column in personal_columns
	not column.custom.mask
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
	lower(member.role) == "owner"
	member.username != ""
}

# Before ODCS 3.1, `team` is the list of its members.
has_owner if {
	is_array(input.contract.team)
	some member in input.contract.team
	lower(member.role) == "owner"
	member.username != ""
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

personal_columns contains column if {
	some column in input.columns
	lower(column.classification) in {"personal", "pii", "sensitive"}
}

personal_columns contains column if {
	some column in input.columns
	some tag in column.tags
	lower(tag) in {"personal", "pii"}
}

personal_columns contains column if {
	some column in input.columns
	regex.match(`(^|[._])(e_?mail|phone|mobile|ssn|passport|iban|birth_?(date|day)|date_of_birth|first_?name|last_?name|surname|home_address|tail_?num(ber)?)$`, lower(column.name))
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
	"h": 1 / 24, "hour": 1 / 24, "hours": 1 / 24,
	"d": 1, "day": 1, "days": 1,
	"w": 7, "week": 7, "weeks": 7,
	"mo": 30, "month": 30, "months": 30,
	"y": 365, "yr": 365, "year": 365, "years": 365,
}
