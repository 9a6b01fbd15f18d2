//! The Rego engine behind bounds: modules in, a rule's value out, within [`BUDGET`], a stack of its own, and what
//! `bounds` lets builtins make.

mod bounds;

use std::num::NonZeroU32;
use std::time::Duration;

use regorus::unstable::{Parser, Rule, RuleHead};
use regorus::utils::limits::ExecutionTimerConfig;
use regorus::{Engine, LimitError, Value};

use crate::error::PolicyError;
use crate::package::Module;

/// How long one rule may take. Rules look at one contract or one reader: a few hundred microseconds.
pub(crate) const BUDGET: Duration = Duration::from_secs(2);

/// Every how many steps the clock is read.
const CHECK_INTERVAL: NonZeroU32 = NonZeroU32::MIN.saturating_add(255);

/// An engine without modules.
pub(crate) fn new_engine(budget: Duration) -> Engine {
    let mut engine = Engine::new();
    engine.set_strict_builtin_errors(true);
    engine.set_execution_timer_config(ExecutionTimerConfig { limit: budget, check_interval: CHECK_INTERVAL });
    bounds::install(&mut engine);
    engine
}

/// The stack of [`apart`]: [`MAX_RULES`] rules that call each other fit in it, also unoptimised.
const STACK: usize = 256 << 20;

/// Most rule heads of one module.
const MAX_RULES: usize = 500;

/// Runs on a thread of its own: a chain of rules may be deep, and a panic in regorus is an answer like any other error.
pub(crate) fn apart<T: Send>(
    what: &str,
    work: impl FnOnce() -> Result<T, PolicyError> + Send,
) -> Result<T, PolicyError> {
    let failed = |message: String| PolicyError::Evaluation { rule: what.to_owned(), message };
    std::thread::scope(|scope| {
        let thread = std::thread::Builder::new().name("policy".to_owned()).stack_size(STACK);
        let running = thread.spawn_scoped(scope, work).map_err(|error| failed(format!("no thread: {error}")))?;
        running.join().unwrap_or_else(|_| Err(failed("the Rego engine panicked".to_owned())))
    })
}

/// A module as the engine knows it.
pub(crate) struct Loaded {
    /// Its package, without the leading `data.`.
    pub(crate) package: String,
    /// Where the package is declared.
    pub(crate) line: u32,
    pub(crate) column: u32,
    /// The rules it declares, in order, one entry for each head.
    pub(crate) rules: Vec<Declared>,
}

/// The head of a rule.
pub(crate) struct Declared {
    pub(crate) name: String,
    pub(crate) line: u32,
}

/// Adds a module.
pub(crate) fn add_module(engine: &mut Engine, module: &Module) -> Result<Loaded, PolicyError> {
    let package =
        engine.add_policy(module.name.clone(), module.rego.clone()).map_err(|error| broken(&module.name, &error))?;
    let package = package.strip_prefix("data.").unwrap_or(&package).to_owned();
    let mut loaded = Loaded { package, line: 1, column: 1, rules: Vec::new() };
    if let Some(parsed) = engine.get_modules().last() {
        (loaded.line, loaded.column) = (parsed.package.span.line, parsed.package.span.col);
        loaded.rules = parsed.policy.iter().filter_map(|rule| declared(rule)).collect();
        if parsed.policy.len() > MAX_RULES {
            let message =
                format!("the policy has {} rules, more than {MAX_RULES}: split or shorten it", parsed.policy.len());
            let module = module.name.clone();
            let line = loaded.line;
            let column = loaded.column;
            return Err(PolicyError::Broken { module, line, column, message });
        }
    }
    Ok(loaded)
}

fn declared(rule: &Rule) -> Option<Declared> {
    let refr = match rule {
        Rule::Spec { head, .. } => match head {
            RuleHead::Compr { refr, .. } | RuleHead::Set { refr, .. } | RuleHead::Func { refr, .. } => refr,
        },
        Rule::Default { refr, .. } => refr,
    };
    let path = Parser::get_path_ref_components(refr).ok()?;
    Some(Declared { name: path.first()?.text().to_owned(), line: rule.span().line })
}

/// Resolves names across all modules, so that a broken one is found before anybody asks.
pub(crate) fn analyse(engine: &mut Engine, rule: &str) -> Result<(), PolicyError> {
    engine.compile_with_entrypoint(&rule.into()).map(drop).map_err(|error| broken("?", &error))
}

/// The value at a rule's path; `None` where it is undefined. A query, since a rule whose heads are
/// `columnMasks["tailnum"]` has no rule path of its own.
pub(crate) fn evaluate(engine: &mut Engine, rule: &str, budget: Duration) -> Result<Option<Value>, PolicyError> {
    bounds::begin();
    match engine.eval_query(rule.to_owned(), false) {
        Ok(mut results) => {
            let expression = results.result.pop().and_then(|mut result| result.expressions.pop());
            Ok(expression.map(|expression| expression.value).filter(|value| *value != Value::Undefined))
        }
        Err(error) if is_timeout(&error) => {
            let limit_ms = u64::try_from(budget.as_millis()).unwrap_or(u64::MAX);
            Err(PolicyError::TooSlow { rule: rule.to_owned(), limit_ms })
        }
        Err(error) => Err(PolicyError::Evaluation { rule: rule.to_owned(), message: Place::of(&error).in_one_line() }),
    }
}

fn is_timeout(error: &anyhow::Error) -> bool {
    matches!(error.downcast_ref::<LimitError>(), Some(LimitError::TimeLimitExceeded { .. }))
}

fn broken(module: &str, error: &anyhow::Error) -> PolicyError {
    let place = Place::of(error);
    PolicyError::Broken {
        module: place.module.unwrap_or_else(|| module.to_owned()),
        line: place.line,
        column: place.column,
        message: place.message,
    }
}

/// Where regorus says that something is wrong. Its errors are text: `--> module:line:column`, the line, `error: …`.
struct Place {
    module: Option<String>,
    line: u32,
    column: u32,
    message: String,
}

impl Place {
    fn of(error: &anyhow::Error) -> Self {
        let text = format!("{error:#}");
        Self::parse(&text).unwrap_or(Self { module: None, line: 1, column: 1, message: text.trim().to_owned() })
    }

    fn parse(text: &str) -> Option<Self> {
        let place = text.split_once("--> ")?.1.lines().next()?;
        let (rest, column) = place.rsplit_once(':')?;
        let (module, line) = rest.rsplit_once(':')?;
        let message = text.split_once("\nerror: ").map_or(text, |(_, message)| message);
        Some(Self {
            module: Some(module.to_owned()),
            line: line.parse().ok()?,
            column: column.parse().ok()?,
            message: message.trim().to_owned(),
        })
    }

    fn in_one_line(self) -> String {
        match self.module {
            Some(module) => format!("{} ({module}:{}:{})", self.message, self.line, self.column),
            None => self.message,
        }
    }
}
