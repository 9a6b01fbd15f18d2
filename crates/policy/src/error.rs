//! What can be wrong with a policy, or with asking it.

/// A policy that cannot be compiled, or an answer that cannot be trusted. A caller treats it as "no".
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PolicyError {
    /// The text is no Rego, or calls what does not exist.
    #[error("policy {module}:{line}:{column}: {message}")]
    Broken { module: String, line: u32, column: u32, message: String },
    /// The package is none of those the mesh asks.
    #[error(
        "policy {module}:{line}:{column}: package `{package}` is not one that the mesh asks; use \
         `mesh.platform.admission`, `mesh.platform.reading`, `mesh.domain.<domain>.admission` or \
         `mesh.domain.<domain>.reading`"
    )]
    UnknownPackage { module: String, line: u32, column: u32, package: String },
    /// Two modules of one package: the second would replace the first.
    #[error("policies {first} and {second} are both package `{package}`; put their rules into one module")]
    DuplicatePackage { package: String, first: String, second: String },
    /// The module lacks the rule that makes it a policy.
    #[error("policy {module} has no rule `{rule}`, so it could never decide anything; add one to package `{package}`")]
    MissingRule { module: String, package: String, rule: &'static str },
    /// The evaluation failed: two values for one rule, a failing builtin, …
    #[error("`{rule}` cannot be evaluated: {message}")]
    Evaluation { rule: String, message: String },
    /// The evaluation took longer than it may.
    #[error("`{rule}` was stopped after {limit_ms} ms; make it do less work")]
    TooSlow { rule: String, limit_ms: u64 },
    /// The rule's value has another shape than its reader expects.
    #[error("`{rule}` answered {found}, where {wanted} is expected")]
    WrongAnswer { rule: String, found: String, wanted: &'static str },
    /// A mask that Iceberg's Read Restrictions do not know.
    #[error("`{rule}` masks column `{column}` with `{action}`, which is no mask; use one of {known}")]
    UnknownAction { rule: String, column: String, action: String, known: String },
    /// A mask for a column that the product lacks: a typo would leave the right column bare.
    #[error("`{rule}` masks column `{column}`, which product {product} does not have")]
    UnknownColumn { rule: String, column: String, product: String },
    /// A mask that the column's type cannot carry.
    #[error(
        "`{rule}` masks column `{column}` with `{action}`, which does not fit its type `{logical_type}`; \
         `replace-with-null` fits every type"
    )]
    UnfitAction { rule: String, column: String, action: &'static str, logical_type: String },
}

impl PolicyError {
    /// The code of this error's page in `docs/errors/`.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Broken { .. } => "MESH-POLICY-0001",
            Self::UnknownPackage { .. } => "MESH-POLICY-0002",
            Self::DuplicatePackage { .. } => "MESH-POLICY-0003",
            Self::MissingRule { .. } => "MESH-POLICY-0004",
            Self::Evaluation { .. } => "MESH-POLICY-0005",
            Self::TooSlow { .. } => "MESH-POLICY-0006",
            Self::WrongAnswer { .. } => "MESH-POLICY-0007",
            Self::UnknownAction { .. } => "MESH-POLICY-0008",
            Self::UnknownColumn { .. } => "MESH-POLICY-0009",
            Self::UnfitAction { .. } => "MESH-POLICY-0010",
        }
    }
}
