//! What a set of policies answers, and that it never answers "yes" for want of an answer.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::collections::BTreeMap;
use std::time::Duration;

use mesh_policy::{
    AdmissionInput, ColumnFacts, Module, Package, PackageKind, PolicyError, PolicySet, PrincipalFacts, ProductFacts,
    ReadingRights,
};
use proptest::prelude::*;
use serde_json::{Value, json};

const PLATFORM: &str = "package mesh.platform.reading\nimport rego.v1\n";
const DOMAIN: &str = "package mesh.domain.operations.reading\nimport rego.v1\n";

fn compile(regos: &[&str]) -> Result<PolicySet, PolicyError> {
    let modules = regos.iter().enumerate().map(|(at, rego)| Module::new(format!("{at}.rego"), *rego));
    PolicySet::compile(modules)
}

fn principal(name: &str) -> PrincipalFacts {
    PrincipalFacts {
        name: name.to_owned(),
        roles: vec!["partner".to_owned()],
        attributes: BTreeMap::from([("carrier".to_owned(), "UA".to_owned())]),
        ..PrincipalFacts::default()
    }
}

fn flights() -> ProductFacts {
    let column = |name: &str, logical_type: &str, required| ColumnFacts {
        name: name.to_owned(),
        logical_type: logical_type.to_owned(),
        required,
        ..ColumnFacts::default()
    };
    ProductFacts {
        name: "operations.flights".to_owned(),
        domain: "operations".to_owned(),
        major: 1,
        columns: vec![
            column("tailnum", "string", false),
            column("carrier", "string", true),
            column("dep_delay", "integer", false),
            column("time_hour", "timestamp", true),
        ],
        ..ProductFacts::default()
    }
}

/// What `ana` sees of flights under these modules: `deny`, `error CODE`, or the filters and masks.
fn check(regos: &[&str], expected: &str) {
    let shown = match compile(regos).unwrap().reading(&principal("ana"), &flights()) {
        Err(error) => format!("error {}", error.code()),
        Ok(reading) if !reading.allow => {
            assert!(!reading.reason.is_empty());
            "deny".to_owned()
        }
        Ok(reading) => show(&reading),
    };
    assert_eq!(shown, expected, "{regos:#?}");
}

fn show(reading: &ReadingRights) -> String {
    let filters: Vec<_> = reading.row_filters.iter().map(|filter| filter.expression.clone()).collect();
    let masks: Vec<_> = reading.column_masks.iter().map(|(column, action)| format!("{column}:{action}")).collect();
    format!("[{}] [{}]", filters.join(" & "), masks.join(" "))
}

fn platform(body: &str) -> String {
    format!("{PLATFORM}{body}\n")
}

fn domain(body: &str) -> String {
    format!("{DOMAIN}{body}\n")
}

#[test]
fn no_principal_reads_without_an_answer() {
    check(&[], "deny");
    check(&[&domain("allow := true")], "deny");
    check(&[&platform("allow if input.principal.name == \"bob\"")], "deny");
    check(&[&platform("default allow := false")], "deny");
    check(&[&platform("allow := true")], "[] []");
}

#[test]
fn an_answer_of_another_shape_is_an_error() {
    for (body, code) in [
        ("allow := \"yes\"", "MESH-POLICY-0007"),
        ("allow := 1", "MESH-POLICY-0007"),
        ("allow := true\nrowFilters := \"carrier = 'UA'\"", "MESH-POLICY-0007"),
        ("allow := true\nrowFilters contains \"carrier = 'UA'\"", "MESH-POLICY-0007"),
        ("allow := true\nrowFilters contains {\"expression\": \"  \"}", "MESH-POLICY-0007"),
        ("allow := true\ncolumnMasks := [\"tailnum\"]", "MESH-POLICY-0007"),
        ("allow := true\ncolumnMasks[\"tailnum\"] := \"sha-256-global\"", "MESH-POLICY-0007"),
        ("allow := true\ncolumnMasks[\"tailnum\"] := {\"action\": \"rot13\"}", "MESH-POLICY-0008"),
        ("allow := true\ncolumnMasks[\"tail_num\"] := {\"action\": \"replace-with-null\"}", "MESH-POLICY-0009"),
        ("allow := true\ncolumnMasks[\"dep_delay\"] := {\"action\": \"show-first-4\"}", "MESH-POLICY-0010"),
        ("allow := true\ncolumnMasks[\"carrier\"] := {\"action\": \"replace-with-null\"}", "MESH-POLICY-0010"),
    ] {
        check(&[&platform(body)], &format!("error {code}"));
        check(&[&platform("allow := true"), &domain(body)], &format!("error {code}"));
    }
}

#[test]
fn what_cannot_be_evaluated_is_an_error() {
    let two_values = "allow := true if input.principal.name == \"ana\"\nallow := false if input.product.major == 1";
    check(&[&platform(two_values)], "error MESH-POLICY-0005");
    check(&[&platform("allow if to_number(input.principal.name) > 1")], "error MESH-POLICY-0005");
    let two_masks =
        "allow := true\ncolumnMasks[\"tailnum\"] := {\"action\": a} if some a in [\"show-first-4\", \"show-last-4\"]";
    check(&[&platform(two_masks)], "error MESH-POLICY-0005");
}

#[test]
fn a_rule_that_takes_too_long_is_stopped() {
    let endless =
        platform("allow if {\n some i in numbers.range(1, 4000)\n some j in numbers.range(1, 4000)\n i * j == -1\n}");
    let set = PolicySet::compile_within([Module::new("slow.rego", endless)], Duration::from_millis(20)).unwrap();
    let error = set.reading(&principal("ana"), &flights()).unwrap_err();
    assert_eq!(error.code(), "MESH-POLICY-0006", "{error}");
}

/// Each of these would take the whole process with it.
#[test]
fn a_rule_that_takes_too_much_is_stopped() {
    let doubled: String = (1..60).map(|i| format!("x{i} := sprintf(\"%s%s\", [x{0}, x{0}])\n", i - 1)).collect();
    let arrays: String = (1..60).map(|i| format!("x{i} := array.concat(x{0}, x{0})\n", i - 1)).collect();
    for body in [
        "allow if count(numbers.range(1, 1000000000000)) > 0".to_owned(),
        "allow if count(numbers.range_step(1, 1000000000000, 1)) > 0".to_owned(),
        "allow if bits.lsh(1, 1000000000000) > 0".to_owned(),
        "allow if sprintf(\"%99999999999d\", [1]) != \"\"".to_owned(),
        format!("x0 := \"0123456789\"\n{doubled}allow if x59 != \"\""),
        format!("x0 := [1, 2, 3, 4]\n{arrays}allow if count(x59) > 0"),
        "allow if {\n x := concat(\"\", [\"a\" | some i in numbers.range(1, 100000)])\n y := replace(x, \"a\", x)\n y != \"\"\n}".to_owned(),
    ] {
        check(&[&platform(&body)], "error MESH-POLICY-0005");
    }
    check(&[&platform("allow if count(numbers.range(1, 1000)) == 1000")], "[] []");
    check(&[&platform("allow if replace(concat(\"-\", [\"a\", \"b\"]), \"-\", \"+\") == \"a+b\"")], "[] []");
}

#[test]
fn a_chain_of_rules_has_room_and_an_end() {
    let chain = |n: usize| {
        let rules: String = (1..n).map(|i| format!("x{i} := x{}\n", i - 1)).collect();
        platform(&format!("x0 := true\n{rules}allow if x{}", n - 1))
    };
    check(&[&chain(498)], "[] []");
    refused(&[&chain(501)], "MESH-POLICY-0001", "more than 500");
    check(&[&platform("allow if allow_too\nallow_too if allow")], "error MESH-POLICY-0005");
}

#[test]
fn filters_and_masks_come_from_the_facts() {
    let partner = platform(
        r#"
allow if "partner" in input.principal.roles
rowFilters contains {"expression": sprintf("carrier = '%s'", [input.principal.attributes.carrier])}
columnMasks[column.name] := {"action": "sha-256-global"} if {
    some column in input.product.columns
    column.name == "tailnum"
}"#,
    );
    check(&[&partner], "[carrier = 'UA'] [tailnum:sha-256-global]");
}

#[test]
fn a_domain_only_narrows() {
    let all = platform("allow := true");
    let none = platform("allow if input.principal.name == \"bob\"");
    check(&[&all, &domain("allow := false")], "deny");
    check(&[&none, &domain("allow := true")], "deny");
    let elsewhere = "package mesh.domain.weather.reading\nimport rego.v1\nallow := false";
    check(&[&all, elsewhere], "[] []");
    check(
        &[
            &platform(
                "allow := true\nrowFilters contains {\"expression\": \"dep_delay > 0\"}\ncolumnMasks[\"tailnum\"] := {\"action\": \"sha-256-global\"}",
            ),
            &domain(
                "allow := true\nrowFilters contains {\"expression\": \"carrier = 'UA'\"}\ncolumnMasks[\"tailnum\"] := {\"action\": \"show-first-4\"}\ncolumnMasks[\"time_hour\"] := {\"action\": \"truncate-to-year\"}",
            ),
        ],
        "[carrier = 'UA' & dep_delay > 0] [tailnum:replace-with-null time_hour:truncate-to-year]",
    );
}

/// The code of what is wrong with these modules, and its message.
fn refused(regos: &[&str], code: &str, says: &str) {
    let error = compile(regos).unwrap_err();
    assert_eq!(error.code(), code, "{error}");
    assert!(error.to_string().contains(says), "{error}");
}

#[test]
fn a_broken_module_is_named_with_its_place() {
    refused(&["package mesh.platform.reading\nimport rego.v1\nallow if {"], "MESH-POLICY-0001", "0.rego:3:");
    refused(&[&platform("allow if x == 1")], "MESH-POLICY-0001", "0.rego:3:10");
    refused(&["# nothing\n\npackage mesh.readings\nallow := true"], "MESH-POLICY-0002", "0.rego:3:1");
    refused(&["package mesh.domain.Weather.reading\nallow := true"], "MESH-POLICY-0002", "Weather");
    refused(&[&platform("allow := true"), &platform("allow := true")], "MESH-POLICY-0003", "0.rego and 1.rego");
    refused(&[&platform("alow := true")], "MESH-POLICY-0004", "`allow`");
    refused(&["package mesh.platform.admission\nallow := true"], "MESH-POLICY-0004", "`deny`");
}

#[test]
fn a_module_is_known_by_its_package() {
    let module =
        Module::new("weather.rego", "package mesh.domain.weather.admission\nimport rego.v1\ndeny contains 1 if false");
    assert_eq!(PolicySet::package_of(&module), Ok(Package::domain("weather", PackageKind::Admission)));
    assert_eq!(Package::domain("weather", PackageKind::Admission).to_string(), "mesh.domain.weather.admission");
}

const OWNER: &str = r#"package mesh.platform.admission
import rego.v1
deny contains {"rule": "owner", "path": "/team", "message": "nobody owns it", "remedy": "add a team"} if {
    not input.contract.team
}
"#;

fn admission(regos: &[&str], contract: &Value) -> Result<Vec<String>, PolicyError> {
    let input = AdmissionInput::new("operations", "operations.flights", contract, &principal("ana"));
    let denials = compile(regos)?.admission(&input)?;
    Ok(denials.into_iter().map(|denial| format!("{} {} {}", denial.package, denial.rule, denial.path)).collect())
}

#[test]
fn a_contract_is_refused_by_the_platform_or_its_domain() {
    let bare = json!({"schema": []});
    let owned = json!({"team": {"name": "ops"}, "schema": []});
    let of_domain = |domain: &str, name: &str| {
        format!(
            "package mesh.domain.{domain}.admission\nimport rego.v1\ndeny contains {{\"rule\": \"{name}\", \"path\": \"\", \
             \"message\": \"no\", \"remedy\": \"none\"}}"
        )
    };
    assert_eq!(admission(&[], &bare), Ok(vec![]));
    assert_eq!(admission(&[OWNER], &owned), Ok(vec![]));
    assert_eq!(admission(&[OWNER], &bare), Ok(vec!["mesh.platform.admission owner /team".to_owned()]));
    assert_eq!(
        admission(&[OWNER, &of_domain("operations", "frozen"), &of_domain("weather", "other")], &owned),
        Ok(vec!["mesh.domain.operations.admission frozen ".to_owned()])
    );
}

#[test]
fn a_denial_that_says_too_little_is_an_error() {
    for denial in [
        "\"no\"",
        "{\"rule\": \"r\", \"path\": \"\", \"message\": \"m\"}",
        "{\"rule\": 1, \"path\": \"\", \"message\": \"m\", \"remedy\": \"r\"}",
    ] {
        let rego = format!("package mesh.platform.admission\nimport rego.v1\ndeny contains {denial}");
        assert_eq!(admission(&[&rego], &json!({})).unwrap_err().code(), "MESH-POLICY-0007", "{denial}");
    }
}

#[test]
fn a_set_is_shared_among_threads() {
    let set = compile(&[&platform("allow if input.principal.name == \"ana\"")]).unwrap();
    std::thread::scope(|scope| {
        for thread in 0..8 {
            let set = set.clone();
            scope.spawn(move || {
                let name = if thread % 2 == 0 { "ana" } else { "bob" };
                for _ in 0..50 {
                    assert_eq!(set.reading(&principal(name), &flights()).unwrap().allow, thread % 2 == 0);
                }
            });
        }
    });
}

/// A reading module that allows with these filters and masks.
fn reading_module(head: &str, allow: bool, filters: &[u8], masks: &[(usize, usize)]) -> String {
    let actions = ["sha-256-global", "sha-256-query-local", "mask-alphanum", "show-first-4", "mask-to-fixed-value"];
    let mut rego = format!("{head}default allow := {allow}\n");
    for filter in filters {
        rego += &format!("rowFilters contains {{\"expression\": \"dep_delay > {filter}\"}}\n");
    }
    for (column, action) in masks.iter().copied().collect::<BTreeMap<_, _>>() {
        let column = ["tailnum", "carrier"][column];
        rego += &format!("columnMasks[\"{column}\"] := {{\"action\": \"{}\"}}\n", actions[action]);
    }
    rego
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 40, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn with_a_domain_policy_no_principal_sees_more(
        allow: bool, of_domain: bool, filters in prop::collection::vec(0u8..4, 0..3), more in prop::collection::vec(0u8..4, 0..3),
        masks in prop::collection::vec((0usize..2, 0usize..5), 0..3), others in prop::collection::vec((0usize..2, 0usize..5), 0..3),
    ) {
        let platform = reading_module(PLATFORM, allow, &filters, &masks);
        let domain = reading_module(DOMAIN, of_domain, &more, &others);
        let alone = compile(&[&platform]).unwrap().reading(&principal("ana"), &flights()).unwrap();
        let both = compile(&[&domain, &platform]).unwrap().reading(&principal("ana"), &flights()).unwrap();
        prop_assert_eq!(both.allow, alone.allow && of_domain);
        if both.allow {
            let expressions: Vec<_> = both.row_filters.iter().map(|filter| &filter.expression).collect();
            prop_assert!(alone.row_filters.iter().all(|filter| expressions.contains(&&filter.expression)));
            for (column, action) in &alone.column_masks {
                let now = both.column_masks[column];
                prop_assert_eq!(now.stricter(*action, column == "carrier"), now);
            }
        }
    }
}
