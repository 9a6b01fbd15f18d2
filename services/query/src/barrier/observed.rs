//! Plans whose metrics the reader will see.

use datafusion::logical_expr::LogicalPlan;
use datafusion::prelude::SessionContext;

/// The session to run `plan` in. Filters that come to be while a query runs begin to work at some batch within the
/// barrier; how many rows got out before would tell where the hidden ones lie. `EXPLAIN ANALYZE` goes without them.
pub fn observed(session: &SessionContext, plan: &LogicalPlan) -> SessionContext {
    if !matches!(plan, LogicalPlan::Analyze(_)) {
        return session.clone();
    }
    let mut state = session.state();
    let options = &mut state.config_mut().options_mut().optimizer;
    options.enable_dynamic_filter_pushdown = false;
    options.enable_topk_dynamic_filter_pushdown = false;
    options.enable_join_dynamic_filter_pushdown = false;
    options.enable_aggregate_dynamic_filter_pushdown = false;
    SessionContext::new_with_state(state)
}
