//! Contracts for tests: a test writes only what it is about.
#![allow(dead_code, unreachable_pub)]

use mesh_contract::{ProductContract, parse};

/// A whole contract around the properties of its one object. `properties` is indented by four.
pub fn document(properties: &str, rest: &str) -> String {
    format!(
        "apiVersion: v3.2.0\nkind: DataContract\nid: orders\nversion: 1.0.0\nstatus: active\ndomain: sales\n\
         dataProduct: Orders\n{rest}schema:\n- name: Orders\n  physicalType: topic\n  physicalName: sales.orders\n  properties:\n{properties}"
    )
}

/// The contract of [`document`].
#[track_caller]
pub fn contract(properties: &str, rest: &str) -> ProductContract {
    let text = document(properties, rest);
    match ProductContract::parse("orders.yaml", &text) {
        Ok(contract) => contract,
        Err(error) => panic!("{error}: {:?}\n{text}", parse("orders.yaml", &text).findings),
    }
}
