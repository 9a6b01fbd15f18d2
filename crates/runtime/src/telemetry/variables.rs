//! The standard `OTEL_*` variables, as far as the SDK leaves them to us.
//!
//! In: the environment. Out: where spans go; an error for a value that the SDK would quietly replace by another.

/// Where spans go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Spans {
    Nowhere,
    AlsoToCollector,
    /// No variable names a collector, or one excludes it.
    WhereTheServiceSays,
}

const SAMPLERS: [&str; 6] = [
    "always_on",
    "always_off",
    "traceidratio",
    "parentbased_always_on",
    "parentbased_always_off",
    "parentbased_traceidratio",
];

/// The variable's value; an empty one counts as absent, as the standard says.
pub(super) fn given(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}

pub(super) fn spans_go() -> Spans {
    let is = |name, value: &str| given(name).is_some_and(|given| given.eq_ignore_ascii_case(value));
    if is("OTEL_SDK_DISABLED", "true") {
        return Spans::Nowhere;
    }
    // Without a collector, lineage is drawn all the same.
    if is("OTEL_TRACES_EXPORTER", "none") {
        return Spans::WhereTheServiceSays;
    }
    let endpoint = given("OTEL_EXPORTER_OTLP_ENDPOINT").or_else(|| given("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT"));
    // Named without an endpoint, OTLP goes to the standard's own: http://localhost:4318.
    if endpoint.is_some() || is("OTEL_TRACES_EXPORTER", "otlp") {
        Spans::AlsoToCollector
    } else {
        Spans::WhereTheServiceSays
    }
}

/// Whether they say what the service is called.
pub(super) fn name_the_service() -> bool {
    let among = |attributes: String| attributes.split(',').any(|pair| pair.trim().starts_with("service.name="));
    given("OTEL_SERVICE_NAME").is_some() || given("OTEL_RESOURCE_ATTRIBUTES").is_some_and(among)
}

/// The first value that cannot be followed.
pub(super) fn check() -> Result<(), String> {
    let to = spans_go();
    if to == Spans::Nowhere {
        return Ok(());
    }
    one_of("OTEL_TRACES_EXPORTER", &["otlp", "none"])?;
    if to == Spans::AlsoToCollector {
        otlp()?;
    }
    one_of("OTEL_TRACES_SAMPLER", &SAMPLERS)?;
    let by_ratio = given("OTEL_TRACES_SAMPLER").is_some_and(|sampler| sampler.ends_with("traceidratio"));
    match given("OTEL_TRACES_SAMPLER_ARG") {
        Some(ratio) if by_ratio && !ratio.parse().is_ok_and(|ratio: f64| (0.0..=1.0).contains(&ratio)) => {
            Err(format!("OTEL_TRACES_SAMPLER_ARG is `{ratio}`, and a ratio is between 0 and 1"))
        }
        _ => Ok(()),
    }
}

/// What the way to a collector must be.
fn otlp() -> Result<(), String> {
    one_of("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", &["http/protobuf"])?;
    if given("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL").is_none() {
        one_of("OTEL_EXPORTER_OTLP_PROTOCOL", &["http/protobuf"])?;
    }
    one_of("OTEL_EXPORTER_OTLP_TRACES_COMPRESSION", &["none"])?;
    if given("OTEL_EXPORTER_OTLP_TRACES_COMPRESSION").is_none() {
        one_of("OTEL_EXPORTER_OTLP_COMPRESSION", &["none"])?;
    }
    Ok(())
}

fn one_of(name: &str, built_in: &[&str]) -> Result<(), String> {
    match given(name) {
        Some(value) if !built_in.contains(&value.as_str()) => {
            Err(format!("{name} is `{value}`, which is not built in; there is {}", built_in.join(", ")))
        }
        _ => Ok(()),
    }
}
