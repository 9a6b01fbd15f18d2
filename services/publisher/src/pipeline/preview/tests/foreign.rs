//! What other engines do to a table between two revisions: every change and several at once, before a minor version.

use std::collections::BTreeMap;

use iceberg::spec::{Schema, Transform};
use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;

const COLUMNS: &str = "      - {name: id, logicalType: integer, required: true, primaryKey: true, primaryKeyPosition: 1}\n      \
    - {name: small, logicalType: integer, logicalTypeOptions: {format: i32}}\n      \
    - {name: place, logicalType: object, properties: [{name: city, logicalType: string}]}\n      \
    - {name: note, logicalType: string}\n";
const TABLE: &str = "operations.flights_v1";

/// What engines can do by Iceberg's rules.
#[derive(Debug, Clone)]
enum Evolution {
    Add { name: &'static str, ty: &'static str, required: bool },
    AddWithin(&'static str),
    Widen,
    Relax,
    Rename(&'static str, &'static str),
    Swap,
    Drop(&'static str),
    Reverse,
    Partition,
}

fn evolution() -> impl Strategy<Value = Evolution> {
    let name = prop_oneof![Just("extra"), Just("more"), Just("tail")];
    let add = (name, prop_oneof![Just("string"), Just("long"), Just("double")], any::<bool>());
    prop_oneof![
        3 => add.prop_map(|(name, ty, required)| Evolution::Add { name, ty, required }),
        1 => prop_oneof![Just("street"), Just("zip")].prop_map(Evolution::AddWithin),
        1 => Just(Evolution::Widen),
        1 => Just(Evolution::Relax),
        1 => Just(Evolution::Reverse),
        1 => Just(Evolution::Partition),
        1 => (prop_oneof![Just("note"), Just("id")], prop_oneof![Just("other"), Just("tail")])
            .prop_map(|(from, to)| Evolution::Rename(from, to)),
        1 => Just(Evolution::Swap),
        1 => prop_oneof![Just("note"), Just("small")].prop_map(Evolution::Drop),
    ]
}

impl Evolution {
    /// Does it, where names allow.
    fn apply(&self, table: &mut TableFacts) {
        let mut schema = serde_json::to_value(table.schema.as_ref()).unwrap();
        schema.as_object_mut().unwrap().remove("identifier-field-ids");
        let fields = schema["fields"].as_array_mut().unwrap();
        let at = |fields: &[Value], name: &str| fields.iter().position(|field| field["name"] == name);
        match self {
            Self::Add { name, ty, required } => {
                if at(fields, name).is_none() {
                    table.last_column_id += 1;
                    fields.push(json!({"id": table.last_column_id, "name": name, "required": required, "type": ty}));
                }
            }
            Self::AddWithin(name) => {
                let within = at(fields, "place").unwrap();
                let inner = fields[within]["type"]["fields"].as_array_mut().unwrap();
                if at(inner, name).is_none() {
                    table.last_column_id += 1;
                    inner.push(json!({"id": table.last_column_id, "name": name, "required": false, "type": "string"}));
                }
            }
            Self::Widen => at(fields, "small").into_iter().for_each(|at| fields[at]["type"] = "long".into()),
            Self::Relax => at(fields, "id").into_iter().for_each(|at| fields[at]["required"] = false.into()),
            Self::Rename(from, to) => {
                if let (Some(at), None) = (at(fields, from), at(fields, to)) {
                    fields[at]["name"] = (*to).into();
                }
            }
            Self::Swap => {
                if let (Some(one), Some(other)) = (at(fields, "note"), at(fields, "small")) {
                    fields[one]["name"] = "small".into();
                    fields[other]["name"] = "note".into();
                }
            }
            Self::Drop(name) => at(fields, name).into_iter().for_each(|at| drop(fields.remove(at))),
            Self::Reverse => fields.reverse(),
            Self::Partition => {
                let id = fields[0]["id"].as_i64().unwrap() as i32;
                table.partition = vec![(id, Transform::Bucket(4))];
            }
        }
        table.schema = Arc::new(serde_json::from_value(schema).unwrap());
    }
}

fn ids(schema: &Schema) -> BTreeMap<i32, String> {
    schema.field_id_to_name_map().iter().map(|(id, name)| (*id, name.clone())).collect()
}

/// The contract's columns and where they are.
const OWN: [&str; 5] = ["id", "small", "place", "place.city", "note"];

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    /// A minor version goes on over all that leaves the contract's own columns where they are, and keeps what others
    /// made; it is refused, with a remedy that helps, where a column went to another field.
    #[test]
    fn a_minor_version_follows_what_other_engines_did(
        evolutions in proptest::collection::vec(evolution(), 0..5),
        adds in any::<bool>(),
        recorded in any::<bool>(),
    ) {
        let mut mesh = Mesh::new();
        prop_assert_eq!(errors(&mesh.apply("ops", "f.yaml", &flights("1.0.0", COLUMNS))), vec![]);
        let mut table = mesh.preview.tables[TABLE].clone();
        let own = OWN.map(|path| (path, table.schema.field_id_by_name(path).unwrap()));
        if !recorded {
            // A table of the version before: who renamed what cannot be known, so nothing is renamed here.
            table.columns = Ok(None);
        }
        let moves = |one: &Evolution| matches!(one, Evolution::Rename(..) | Evolution::Swap | Evolution::Drop(_));
        for evolution in evolutions.iter().filter(|one| recorded || !moves(one)) {
            evolution.apply(&mut table);
        }
        let before = table.clone();
        mesh.preview.tables.insert(TABLE.to_owned(), table);
        let next = if adds { format!("{COLUMNS}      - {{name: tail, logicalType: string}}\n") } else { COLUMNS.to_owned() };
        let decisions = mesh.apply("ops", "f.yaml", &flights("1.1.0", &next));
        let refusals = errors(&decisions);

        let stay = own.iter().all(|(path, id)| before.schema.name_by_field_id(*id) == Some(path));
        let tail = before.schema.field_by_name("tail").map(|field| field.field_type.to_string());
        let clash = adds && tail.is_some_and(|ty| ty != "string");
        prop_assert_eq!(refusals.is_empty(), stay && !clash, "{:?} after {:?}", refusals, evolutions);
        if let Some(refusal) = refusals.first() {
            prop_assert_eq!(refusal.code.as_str(), "MESH-PUBLISHER-0017");
            let major = flights("2.0.0", &next);
            prop_assert_eq!(errors(&mesh.apply("ops", "f.yaml", &major)), vec![], "{}", refusal.remedy);
            return Ok(());
        }
        let after = &mesh.preview.tables[TABLE];
        for (path, id) in own {
            prop_assert_eq!(after.schema.field_id_by_name(path), Some(id), "{}", path);
        }
        let kept = ids(&after.schema);
        for (id, name) in ids(&before.schema) {
            prop_assert_eq!(kept.get(&id), Some(&name));
            let (old, new) = (before.schema.field_by_id(id).unwrap(), after.schema.field_by_id(id).unwrap());
            prop_assert!(old.required || !new.required, "`{}` is required over rows without it", name);
            prop_assert!(!old.field_type.is_primitive() || old.field_type == new.field_type, "`{}`", name);
        }
        for name in ["extra", "more"] {
            prop_assert!(after.schema.field_by_name(name).is_none_or(|field| !field.required), "`{}`", name);
        }
        prop_assert_eq!(&after.partition, &before.partition);
        // It goes on from there: what the revision recorded is what the next one finds.
        prop_assert_eq!(errors(&mesh.apply("ops", "f.yaml", &flights("1.2.0", &(next + "      - {name: last, logicalType: date}\n")))), vec![]);
    }
}
