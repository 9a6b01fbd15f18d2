//! Every policy of a mesh at one revision, compiled: the one that answers.

use std::borrow::Borrow;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use regorus::{Engine, Value};

use crate::admission::{AdmissionInput, Denial};
use crate::answer;
use crate::engine::{self, BUDGET};
use crate::error::PolicyError;
use crate::facts::{PrincipalFacts, ProductFacts};
use crate::package::{Module, Package, PackageKind};
use crate::rights::ReadingRights;

/// Compiled policies. Clones are cheap and share everything; evaluation takes `&self` on any thread.
#[derive(Clone)]
pub struct PolicySet {
    inner: Arc<Inner>,
}

struct Inner {
    engine: Engine,
    budget: Duration,
    /// Which of the rules that the mesh asks each package has.
    rules: BTreeMap<Package, BTreeSet<&'static str>>,
}

/// The rules that the mesh asks for.
const ASKED: [&str; 4] = ["deny", "allow", "rowFilters", "columnMasks"];

impl PolicySet {
    /// Compiles modules. An empty set is valid: it refuses no contract, and lets no principal read.
    ///
    /// # Errors
    /// The first module that is broken, of a package the mesh never asks or already has, or without its main rule.
    pub fn compile(modules: impl IntoIterator<Item = impl Borrow<Module>>) -> Result<Self, PolicyError> {
        Self::compile_within(modules, BUDGET)
    }

    /// As [`Self::compile`], with another bound on each rule's evaluation.
    ///
    /// # Errors
    /// As [`Self::compile`].
    pub fn compile_within(
        modules: impl IntoIterator<Item = impl Borrow<Module>>,
        budget: Duration,
    ) -> Result<Self, PolicyError> {
        let modules: Vec<Module> = modules.into_iter().map(|module| module.borrow().clone()).collect();
        engine::apart("the policies", || Self::compile_here(&modules, budget))
    }

    fn compile_here(modules: &[Module], budget: Duration) -> Result<Self, PolicyError> {
        let mut engine = engine::new_engine(budget);
        let mut rules = BTreeMap::new();
        let mut names: BTreeMap<Package, String> = BTreeMap::new();
        for module in modules {
            let (package, declared) = load(&mut engine, module)?;
            if let Some(first) = names.insert(package.clone(), module.name.clone()) {
                let package = package.to_string();
                return Err(PolicyError::DuplicatePackage { package, first, second: module.name.clone() });
            }
            rules.insert(package, declared);
        }
        // Any rule will do: this resolves names in all modules.
        if let Some(package) = rules.keys().next() {
            engine::analyse(&mut engine, &format!("data.{package}.{}", package.required_rule()))?;
        }
        Ok(Self { inner: Arc::new(Inner { engine, budget, rules }) })
    }

    /// The package of a module, which is its identity on `mesh.policies`, after checking the module by itself.
    ///
    /// # Errors
    /// As [`Self::compile`].
    pub fn package_of(module: &Module) -> Result<Package, PolicyError> {
        let set = Self::compile([module])?;
        set.packages().next().cloned().ok_or_else(|| PolicyError::UnknownPackage {
            module: module.name.clone(),
            line: 1,
            column: 1,
            package: String::new(),
        })
    }

    /// The packages in the set.
    pub fn packages(&self) -> impl Iterator<Item = &Package> {
        self.inner.rules.keys()
    }

    /// Why a contract may not be registered: the platform's reasons and its domain's, in the order of their places.
    /// Empty means admitted.
    ///
    /// # Errors
    /// A rule that cannot be evaluated, or answers something else than a set of
    /// `{"rule", "path", "message", "remedy"}`: the contract must not be admitted.
    pub fn admission(&self, input: &AdmissionInput) -> Result<Vec<Denial>, PolicyError> {
        engine::apart("admission", || self.denials(input))
    }

    fn denials(&self, input: &AdmissionInput) -> Result<Vec<Denial>, PolicyError> {
        let mut denials = Vec::new();
        for package in self.deciding(PackageKind::Admission, &input.domain) {
            let (rule, value) = self.ask(package, "deny", &Value::from(input.input.clone()))?;
            denials.extend(answer::denials(&rule, package, value.as_ref())?);
        }
        denials.sort();
        denials.dedup();
        Ok(denials)
    }

    /// What a principal sees of a product: what the platform allows, narrowed by the product's domain.
    /// Without a platform policy no principal sees anything.
    ///
    /// # Errors
    /// A rule that cannot be evaluated or answers in another shape: nothing may be read.
    pub fn reading(&self, principal: &PrincipalFacts, product: &ProductFacts) -> Result<ReadingRights, PolicyError> {
        if !self.inner.rules.contains_key(&Package::platform(PackageKind::ReadingRights)) {
            return Ok(ReadingRights::denied("no policy in package `mesh.platform.reading` is active"));
        }
        engine::apart("reading", || self.read(principal, product))
    }

    fn read(&self, principal: &PrincipalFacts, product: &ProductFacts) -> Result<ReadingRights, PolicyError> {
        let input = Value::from(serde_json::json!({"principal": principal, "product": product}));
        let mut reading: Option<ReadingRights> = None;
        for package in self.deciding(PackageKind::ReadingRights, &product.domain) {
            let next = self.read_one(package, &input, product)?;
            reading = Some(match reading {
                Some(platform) => platform.narrowed_by(next, product),
                None => next,
            });
        }
        Ok(reading.unwrap_or_else(|| ReadingRights::denied("no reading policy is active")))
    }

    fn read_one(&self, package: &Package, input: &Value, product: &ProductFacts) -> Result<ReadingRights, PolicyError> {
        let (rule, allow) = self.ask(package, "allow", input)?;
        if !answer::allow(&rule, allow.as_ref())? {
            return Ok(ReadingRights::denied(format!("`{rule}` does not allow it")));
        }
        let (rule, filters) = self.ask(package, "rowFilters", input)?;
        let row_filters = answer::row_filters(&rule, package, filters.as_ref())?;
        let (rule, masks) = self.ask(package, "columnMasks", input)?;
        let column_masks = answer::column_masks(&rule, product, masks.as_ref())?;
        Ok(ReadingRights { allow: true, reason: String::new(), row_filters, column_masks })
    }

    /// The platform's package first, then the domain's.
    fn deciding(&self, kind: PackageKind, domain: &str) -> impl Iterator<Item = &Package> {
        [Package::platform(kind), Package::domain(domain, kind)]
            .into_iter()
            .filter_map(|package| self.inner.rules.get_key_value(&package).map(|(known, _)| known))
    }

    /// A rule's name and its value: `None` where it is undefined or the package does not have it.
    fn ask(
        &self,
        package: &Package,
        rule: &'static str,
        input: &Value,
    ) -> Result<(String, Option<Value>), PolicyError> {
        let path = format!("data.{package}.{rule}");
        let name = format!("{package}.{rule}");
        if !self.inner.rules.get(package).is_some_and(|rules| rules.contains(rule)) {
            return Ok((name, None));
        }
        let mut engine = self.inner.engine.clone();
        // `print` is for a policy's tests: a service's log is no place for what a rule sees.
        engine.set_gather_prints(true);
        engine.set_input(input.clone());
        let value = engine::evaluate(&mut engine, &path, self.inner.budget)?;
        Ok((name, value))
    }
}

impl fmt::Debug for PolicySet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.inner.rules.keys().map(ToString::to_string)).finish()
    }
}

fn load(engine: &mut Engine, module: &Module) -> Result<(Package, BTreeSet<&'static str>), PolicyError> {
    let loaded = engine::add_module(engine, module)?;
    let package: Package = loaded.package.parse().map_err(|_| PolicyError::UnknownPackage {
        module: module.name.clone(),
        line: loaded.line,
        column: loaded.column,
        package: loaded.package.clone(),
    })?;
    let has = |rule: &str| loaded.rules.iter().any(|declared| declared.name == rule);
    let rules: BTreeSet<_> = ASKED.into_iter().filter(|rule| has(rule)).collect();
    if !rules.contains(package.required_rule()) {
        let rule = package.required_rule();
        return Err(PolicyError::MissingRule { module: module.name.clone(), package: package.to_string(), rule });
    }
    Ok((package, rules))
}
