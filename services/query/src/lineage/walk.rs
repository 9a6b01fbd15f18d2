//! The walk over a plan that [`super::columns`] is made by.

use std::collections::HashMap;

use datafusion::common::tree_node::{TreeNode, TreeNodeRecursion};
use datafusion::common::{Column, DFSchema, Result};
use datafusion::logical_expr::expr::{AggregateFunction, Case, WindowFunction};
use datafusion::logical_expr::{
    Aggregate, Distinct, Expr, Join, LogicalPlan, RecursiveQuery, Subquery, TableScan, Union, Unnest,
    WindowFunctionDefinition,
};

use super::dependency::{Dependencies, DependencyKind};

/// What a plan node gives out.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Node {
    /// One for each field of the node's schema.
    pub(super) columns: Vec<Dependencies>,
    /// What chose its rows.
    pub(super) rows: Dependencies,
}

/// The columns that expressions may name, and those of the queries around.
#[derive(Default)]
pub(super) struct Scope<'a> {
    inner: Option<(&'a Node, &'a DFSchema)>,
    outer: Option<&'a Scope<'a>>,
}

impl<'a> Scope<'a> {
    fn within(&'a self, node: &'a Node, schema: &'a DFSchema) -> Scope<'a> {
        Scope { inner: Some((node, schema)), outer: Some(self) }
    }

    fn column(&self, column: &Column) -> Dependencies {
        let found = self.inner.and_then(|(node, schema)| node.columns.get(schema.maybe_index_of_column(column)?));
        match (found, self.outer) {
            (Some(found), _) => found.clone(),
            (None, Some(outer)) => outer.column(column),
            (None, None) => Dependencies::default(),
        }
    }
}

/// The state of a walk: what recursive queries have given out so far, by name.
#[derive(Default)]
pub(super) struct Walk {
    recursive: HashMap<String, Node>,
}

impl Walk {
    pub(super) fn node(&mut self, plan: &LogicalPlan, outer: &Scope<'_>) -> Result<Node> {
        match plan {
            LogicalPlan::TableScan(scan) => self.scan(scan, outer),
            LogicalPlan::Projection(p) => {
                let input = self.node(&p.input, outer)?;
                self.projected(&p.expr, input, p.input.schema(), outer)
            }
            LogicalPlan::Filter(f) => {
                let input = self.node(&f.input, outer)?;
                self.choosing(input, f.input.schema(), [(&f.predicate, DependencyKind::Filter)], outer)
            }
            LogicalPlan::Sort(s) => {
                let input = self.node(&s.input, outer)?;
                self.choosing(input, s.input.schema(), s.expr.iter().map(|e| (&e.expr, DependencyKind::Sort)), outer)
            }
            LogicalPlan::Window(w) => {
                let mut input = self.node(&w.input, outer)?;
                let added = self.projected(&w.window_expr, input.clone(), w.input.schema(), outer)?;
                input.columns.extend(added.columns);
                Ok(input)
            }
            LogicalPlan::Aggregate(aggregate) => self.aggregate(aggregate, outer),
            LogicalPlan::Join(join) => self.join(join, outer),
            LogicalPlan::Union(union) => self.union(union, outer),
            LogicalPlan::Distinct(Distinct::All(input)) => {
                let mut node = self.node(input, outer)?;
                for column in node.columns.clone() {
                    node.rows.add(column.through(DependencyKind::GroupBy));
                }
                Ok(node)
            }
            LogicalPlan::Distinct(Distinct::On(on)) => {
                let input = self.node(&on.input, outer)?;
                let keys = on.on_expr.iter().map(|e| (e, DependencyKind::GroupBy));
                let order = on.sort_expr.iter().flatten().map(|e| (&e.expr, DependencyKind::Sort));
                let input = self.choosing(input, on.input.schema(), keys.chain(order), outer)?;
                self.projected(&on.select_expr, input, on.input.schema(), outer)
            }
            LogicalPlan::Unnest(unnest) => self.unnest(unnest, outer),
            LogicalPlan::RecursiveQuery(query) => self.recursive(query, outer),
            LogicalPlan::SubqueryAlias(_)
            | LogicalPlan::Limit(_)
            | LogicalPlan::Repartition(_)
            | LogicalPlan::Subquery(_) => match plan.inputs().as_slice() {
                [input] => self.node(input, outer),
                _ => self.unknown(plan, outer),
            },
            _ => self.unknown(plan, outer),
        }
    }

    fn scan(&mut self, scan: &TableScan, outer: &Scope<'_>) -> Result<Node> {
        let bare = scan.table_name.schema().is_none();
        if let Some(node) = self.recursive.get(scan.table_name.table()).filter(|_| bare) {
            let all = scan.projection.clone().unwrap_or_else(|| (0..node.columns.len()).collect());
            let columns = all.iter().filter_map(|i| node.columns.get(*i).cloned()).collect();
            return Ok(Node { columns, rows: node.rows.clone() });
        }
        let table = scan.table_name.to_string();
        let of =
            |schema: &DFSchema| schema.fields().iter().map(|f| Dependencies::of_column(&table, f.name())).collect();
        let node = Node { columns: of(&scan.projected_schema), rows: Dependencies::default() };
        // A filter of an optimised plan may name columns that are not given out.
        let full = DFSchema::try_from_qualified_schema(scan.table_name.clone(), &scan.source.schema())?;
        let all = Node { columns: of(&full), rows: Dependencies::default() };
        let chosen = self.choosing(all, &full, scan.filters.iter().map(|e| (e, DependencyKind::Filter)), outer)?;
        Ok(Node { rows: chosen.rows, ..node })
    }

    fn projected(&mut self, exprs: &[Expr], input: Node, schema: &DFSchema, outer: &Scope<'_>) -> Result<Node> {
        let scope = outer.within(&input, schema);
        let columns = exprs.iter().map(|expr| self.expr(expr, &scope)).collect::<Result<_>>()?;
        Ok(Node { columns, rows: input.rows })
    }

    /// `input` with rows chosen by expressions.
    fn choosing<'e>(
        &mut self,
        mut input: Node,
        schema: &DFSchema,
        by: impl IntoIterator<Item = (&'e Expr, DependencyKind)>,
        outer: &Scope<'_>,
    ) -> Result<Node> {
        let mut rows = Dependencies::default();
        {
            let scope = outer.within(&input, schema);
            for (expr, kind) in by {
                rows.add(self.expr(expr, &scope)?.through(kind));
            }
        }
        input.rows.add(rows);
        Ok(input)
    }

    fn aggregate(&mut self, aggregate: &Aggregate, outer: &Scope<'_>) -> Result<Node> {
        let schema = aggregate.input.schema();
        let input = self.node(&aggregate.input, outer)?;
        let groups: Vec<&Expr> = match aggregate.group_expr.as_slice() {
            [Expr::GroupingSet(set)] => set.distinct_expr(),
            exprs => exprs.iter().collect(),
        };
        let input = self.choosing(input, schema, groups.iter().map(|e| (*e, DependencyKind::GroupBy)), outer)?;
        let scope = outer.within(&input, schema);
        let mut columns = groups.iter().map(|expr| self.expr(expr, &scope)).collect::<Result<Vec<_>>>()?;
        // Grouping sets add a column that says which set a row is of.
        let given_out = aggregate.schema.fields().len() - aggregate.aggr_expr.len();
        columns.resize(given_out, Dependencies::default());
        for expr in &aggregate.aggr_expr {
            columns.push(self.expr(expr, &scope)?);
        }
        Ok(Node { columns, rows: input.rows })
    }

    fn join(&mut self, join: &Join, outer: &Scope<'_>) -> Result<Node> {
        let left = self.node(&join.left, outer)?;
        // A LATERAL query on the right may name columns of the left.
        let right = self.node(&join.right, &outer.within(&left, join.left.schema()))?;
        let left_width = left.columns.len();
        let right_width = right.columns.len();
        let schema = join.left.schema().join(join.right.schema())?;
        let mut both = Node { columns: [left.columns, right.columns].concat(), rows: left.rows };
        both.rows.add(right.rows);
        let keys = join.on.iter().flat_map(|(l, r)| [l, r]).chain(&join.filter).map(|e| (e, DependencyKind::Join));
        let mut both = self.choosing(both, &schema, keys, outer)?;
        let width = join.schema.fields().len();
        use datafusion::common::JoinType as T;
        match join.join_type {
            T::LeftSemi | T::LeftAnti | T::LeftMark => both.columns.truncate(left_width),
            T::RightSemi | T::RightAnti | T::RightMark => {
                both.columns = both.columns.split_off(both.columns.len() - right_width);
            }
            T::Inner | T::Left | T::Right | T::Full => {}
        }
        if both.columns.len() < width {
            // The mark says whether the join found a row.
            both.columns.push(both.rows.indirect_only());
        }
        Ok(both)
    }

    fn union(&mut self, union: &Union, outer: &Scope<'_>) -> Result<Node> {
        let mut all = Node::default();
        for input in &union.inputs {
            merge(&mut all, self.node(input, outer)?);
        }
        Ok(all)
    }

    fn unnest(&mut self, unnest: &Unnest, outer: &Scope<'_>) -> Result<Node> {
        let input = self.node(&unnest.input, outer)?;
        let opened = |index: usize| {
            unnest.struct_type_columns.contains(&index) || unnest.list_type_columns.iter().any(|(i, _)| *i == index)
        };
        let column = |&index: &usize| {
            let of = input.columns.get(index).cloned().unwrap_or_default();
            if opened(index) { of.through(DependencyKind::Transformation) } else { of }
        };
        Ok(Node { columns: unnest.dependency_indices.iter().map(column).collect(), rows: input.rows })
    }

    /// Until going round once more brings nothing new: there are finitely many source columns.
    fn recursive(&mut self, query: &RecursiveQuery, outer: &Scope<'_>) -> Result<Node> {
        let mut all = self.node(&query.static_term, outer)?;
        loop {
            self.recursive.insert(query.name.clone(), all.clone());
            let round = self.node(&query.recursive_term, outer)?;
            if !merge(&mut all, round) {
                break;
            }
        }
        self.recursive.remove(&query.name);
        Ok(all)
    }

    /// Everything may depend on everything.
    fn unknown(&mut self, plan: &LogicalPlan, outer: &Scope<'_>) -> Result<Node> {
        let mut values = Dependencies::default();
        let mut rows = Dependencies::default();
        for input in plan.inputs() {
            let node = self.node(input, outer)?;
            node.columns.into_iter().for_each(|column| {
                values.add(column.through(DependencyKind::Transformation));
            });
            rows.add(node.rows);
        }
        Ok(Node { columns: vec![values; plan.schema().fields().len()], rows })
    }

    fn expr(&mut self, expr: &Expr, scope: &Scope<'_>) -> Result<Dependencies> {
        match expr {
            Expr::Column(column) => Ok(scope.column(column)),
            Expr::OuterReferenceColumn(_, column) => Ok(scope.outer.map(|o| o.column(column)).unwrap_or_default()),
            Expr::Alias(alias) => self.expr(&alias.expr, scope),
            Expr::Case(case) => self.case(case, scope),
            Expr::AggregateFunction(function) => self.aggregated(function, scope),
            Expr::WindowFunction(function) => self.windowed(function, scope),
            Expr::ScalarSubquery(subquery) => self.subquery(subquery, DependencyKind::Transformation, scope),
            Expr::Exists(exists) => self.existence(&exists.subquery, scope),
            Expr::InSubquery(inside) => {
                let mut all = self.expr(&inside.expr, scope)?.through(DependencyKind::Transformation);
                all.add(self.subquery(&inside.subquery, DependencyKind::Transformation, scope)?);
                Ok(all)
            }
            Expr::SetComparison(compared) => {
                let mut all = self.expr(&compared.expr, scope)?.through(DependencyKind::Transformation);
                all.add(self.subquery(&compared.subquery, DependencyKind::Transformation, scope)?);
                Ok(all)
            }
            other => self.parts(other, scope),
        }
    }

    /// Any other expression transforms all of its parts.
    fn parts(&mut self, expr: &Expr, scope: &Scope<'_>) -> Result<Dependencies> {
        let mut all = Dependencies::default();
        expr.apply_children(|part| {
            all.add(self.expr(part, scope)?.through(DependencyKind::Transformation));
            Ok(TreeNodeRecursion::Continue)
        })?;
        Ok(all)
    }

    fn case(&mut self, case: &Case, scope: &Scope<'_>) -> Result<Dependencies> {
        let mut all = Dependencies::default();
        let whens = case.when_then_expr.iter().map(|(when, _)| when);
        for condition in case.expr.iter().chain(whens) {
            all.add(self.expr(condition, scope)?.through(DependencyKind::Conditional));
        }
        let thens = case.when_then_expr.iter().map(|(_, then)| then);
        for value in thens.chain(&case.else_expr) {
            all.add(self.expr(value, scope)?.through(DependencyKind::Transformation));
        }
        Ok(all)
    }

    fn aggregated(&mut self, function: &AggregateFunction, scope: &Scope<'_>) -> Result<Dependencies> {
        let mut all = Dependencies::default();
        for arg in &function.params.args {
            all.add(self.expr(arg, scope)?.through(DependencyKind::Aggregation));
        }
        for condition in function.params.filter.iter() {
            all.add(self.expr(condition, scope)?.through(DependencyKind::Filter));
        }
        for order in &function.params.order_by {
            all.add(self.expr(&order.expr, scope)?.through(DependencyKind::Sort));
        }
        Ok(all)
    }

    fn windowed(&mut self, function: &WindowFunction, scope: &Scope<'_>) -> Result<Dependencies> {
        let value = match function.fun {
            WindowFunctionDefinition::AggregateUDF(_) => DependencyKind::Aggregation,
            WindowFunctionDefinition::WindowUDF(_) => DependencyKind::Transformation,
        };
        let mut all = Dependencies::default();
        for arg in &function.params.args {
            all.add(self.expr(arg, scope)?.through(value));
        }
        let order = function.params.order_by.iter().map(|order| &order.expr);
        for by in function.params.partition_by.iter().chain(order) {
            all.add(self.expr(by, scope)?.through(DependencyKind::Window));
        }
        for condition in function.params.filter.iter() {
            all.add(self.expr(condition, scope)?.through(DependencyKind::Filter));
        }
        Ok(all)
    }

    /// The values of a subquery by `kind`, and what chose its rows.
    fn subquery(&mut self, subquery: &Subquery, kind: DependencyKind, scope: &Scope<'_>) -> Result<Dependencies> {
        let node = self.node(&subquery.subquery, scope)?;
        let mut all = node.rows;
        for column in node.columns {
            all.add(column.through(kind));
        }
        Ok(all)
    }

    /// Whether there are rows depends on what chose them.
    fn existence(&mut self, subquery: &Subquery, scope: &Scope<'_>) -> Result<Dependencies> {
        Ok(self.node(&subquery.subquery, scope)?.rows)
    }
}

/// Adds a node's columns by position; true if there was news.
fn merge(all: &mut Node, other: Node) -> bool {
    let width = all.columns.len().max(other.columns.len());
    all.columns.resize(width, Dependencies::default());
    let mut news = false;
    for (mine, theirs) in all.columns.iter_mut().zip(other.columns) {
        news |= mine.add(theirs);
    }
    all.rows.add(other.rows) || news
}
