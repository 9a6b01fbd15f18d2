//! Every digit that a document writes reaches the typed contract, and the text that is made of it again.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use common::{contract, document};
use mesh_contract::{ProductContract, Scalar, compare, parse};
use proptest::prelude::*;

/// Whole digits, digits after the point, and a sign: up to 38 in all.
fn numbers() -> impl Strategy<Value = (u8, String)> {
    (1..=38usize, 0..=38usize, any::<bool>()).prop_flat_map(|(all, scale, negative)| {
        let scale = scale.min(all);
        proptest::collection::vec(b'0'..=b'9', all).prop_map(move |digits| {
            let digits = String::from_utf8(digits).unwrap();
            let (whole, fraction) = digits.split_at(digits.len() - scale);
            let whole = whole.trim_start_matches('0');
            let sign = if negative { "-" } else { "" };
            let whole = if whole.is_empty() { "0" } else { whole };
            let point = if scale > 0 { "." } else { "" };
            (u8::try_from(scale).unwrap(), format!("{sign}{whole}{point}{fraction}"))
        })
    })
}

/// The number without its point: the oracle, which never sees a double.
fn unscaled(text: &str) -> i128 {
    text.replace('.', "").parse().unwrap()
}

fn property(scale: u8, number: &str) -> String {
    let multiple = if is_multiple(number) { format!(", multipleOf: {number}") } else { String::new() };
    format!(
        "  - {{name: a, logicalType: number, physicalType: 'decimal(38,{scale})', enum: [{{value: {number}}}], \
         logicalTypeOptions: {{minimum: {number}, maximum: {number}{multiple}}}}}\n"
    )
}

/// `multipleOf` is more than 0.
fn is_multiple(number: &str) -> bool {
    !number.starts_with('-') && number.bytes().any(|digit| (b'1'..=b'9').contains(&digit))
}

fn limits(contract: &ProductContract) -> Vec<Scalar> {
    let of = &contract.columns()[0].constraints;
    let mut limits = of.enumeration.clone().unwrap();
    limits.extend(of.minimum.iter().chain(&of.maximum).map(|bound| {
        assert!(bound.inclusive, "an exact limit is allowed itself");
        bound.value.clone()
    }));
    limits.extend(of.multiple_of.clone());
    limits
}

proptest! {
    #[test]
    fn text_to_model_to_text_keeps_every_digit((scale, number) in numbers()) {
        let expected = vec![Scalar::Decimal(unscaled(&number)); if is_multiple(&number) { 4 } else { 3 }];
        let first = contract(&property(scale, &number), "");
        prop_assert_eq!(limits(&first), expected.clone(), "{}", number);
        let json = first.contract().to_json();
        let again = ProductContract::parse("f.json", &json).unwrap();
        prop_assert_eq!(limits(&again), expected, "{}", json);
        prop_assert!(first.contract().says_the_same(again.contract()));
        prop_assert_eq!(again.contract().to_json(), json);
    }

    /// A change of the last digit is a change.
    #[test]
    fn the_last_digit_counts((scale, number) in numbers()) {
        let (rest, last) = number.split_at(number.len() - 1);
        let other = format!("{rest}{}", if last == "9" { '8' } else { char::from(last.as_bytes()[0] + 1) });
        let (old, new) = (contract(&property(scale, &number), ""), contract(&property(scale, &other), ""));
        prop_assert!(!old.contract().says_the_same(new.contract()), "{} and {}", number, other);
        prop_assert!(!compare(&old, &new).is_compatible(), "{} and {}", number, other);
    }
}

/// Forms that YAML allows and JSON does not, and limits between two values of the type.
#[test]
fn forms_of_numbers() {
    let scalar = |text: &str| limits(&contract(&property(3, text), ""))[0].clone();
    for (written, unscaled) in [
        ("+1.5", 1_500),
        (".125", 125),
        ("-.125", -125),
        ("7.", 7_000),
        ("1e3", 1_000_000),
        ("0x10", 16_000),
        ("1.50", 1_500),
        ("007.5", 7_500),
        ("2.5E-2", 25),
    ] {
        assert_eq!(scalar(written), Scalar::Decimal(unscaled), "{written}");
    }
    let between = document(
        "  - {name: a, logicalType: number, physicalType: 'decimal(38,2)', logicalTypeOptions: \
         {minimum: 123456789012345678901234567890.121, maximum: 123456789012345678901234567890.131}}\n",
        "",
    );
    let product = ProductContract::parse("f", &between).unwrap();
    let of = &product.columns()[0].constraints;
    let value = Scalar::Decimal(12_345_678_901_234_567_890_123_456_789_013);
    assert!(of.minimum.as_ref().is_some_and(|bound| bound.value <= value), "{of:?}");
}

/// Two values that are one as doubles are two in an `enum`, and a range between them holds something.
#[test]
fn checks_of_the_document_see_every_digit() {
    let text = document(
        "  - {name: a, logicalType: number, physicalType: 'decimal(38,0)', enum: [{value: 12345678901234567890123456789012345678}, {value: 12345678901234567890123456789012345679}], logicalTypeOptions: {exclusiveMinimum: 12345678901234567890123456789012345677, exclusiveMaximum: 12345678901234567890123456789012345680}}\n",
        "",
    );
    assert_eq!(parse("f", &text).findings, []);
    let twice = text.replace("345679}", "345678}");
    assert!(!parse("f", &twice).is_valid());
}
